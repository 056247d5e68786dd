"""Print how many customers a second a model's own library scores of a JSON array of so many.

usage: sklearn_array.py CUSTOMERS
"""

import json
import sys
import time
from statistics import median

import customers
import scripts

dv, model = scripts.load()

size = int(sys.argv[1])
body = json.dumps(customers.many(size)).encode()
times = []
for _ in range(5):
    started = time.perf_counter()
    scripts.probabilities(model, dv.transform(json.loads(body))).tolist()
    times.append(time.perf_counter() - started)
print(size / median(times))
