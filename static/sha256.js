// SHA-256 (NIST, FIPS 180-4), since browsers have their own only on pages that come over https.

const primes = [];
for (let each = 2; primes.length < 64; each += 1) if (primes.every((prime) => each % prime)) primes.push(each);

// The first 32 bits of the roots' fractions (sections 4.2.2 and 5.3.3).
const fraction = (number) => ((number % 1) * 2 ** 32) | 0;
const CONSTANTS = primes.map((prime) => fraction(Math.cbrt(prime)));
const FIRST_HASH = primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));

const turned = (word, bits) => (word >>> bits) | (word << (32 - bits));

/** The digest of a text in UTF-8, in hexadecimal digits. */
export function sha256(text) {
  const message = new TextEncoder().encode(text);
  // One bit, zeros, and the length in bits (5.1.1), in blocks of 64 bytes.
  const padded = new DataView(new ArrayBuffer(((message.length + 72) >> 6) << 6));
  new Uint8Array(padded.buffer).set(message);
  padded.setUint8(message.length, 0x80);
  padded.setBigUint64(padded.byteLength - 8, BigInt(8 * message.length));
  const hash = Int32Array.from(FIRST_HASH);
  const words = new Int32Array(64);
  for (let block = 0; block < padded.byteLength; block += 64) {
    for (let t = 0; t < 64; t += 1) words[t] = t < 16 ? padded.getInt32(block + 4 * t) : scheduled(words, t);
    let [a, b, c, d, e, f, g, h] = hash;
    for (let t = 0; t < 64; t += 1) {
      const choice = (e & f) ^ (~e & g);
      const majority = (a & b) ^ (a & c) ^ (b & c);
      const first = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + choice + CONSTANTS[t] + words[t];
      const second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + majority;
      [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((word, at) => (hash[at] += word));
  }
  return Array.from(hash, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

function scheduled(words, t) {
  const [early, late] = [words[t - 15], words[t - 2]];
  const first = turned(early, 7) ^ turned(early, 18) ^ (early >>> 3);
  return words[t - 16] + first + words[t - 7] + (turned(late, 17) ^ turned(late, 19) ^ (late >>> 10));
}
