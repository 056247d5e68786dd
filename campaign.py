"""Plan a campaign from what the service says, send its letters, and measure what it was worth."""

import argparse
import getpass
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import serving  # noqa: F401 (it says which Python is needed)

try:
    from serving.campaign import BadCampaign, letters, plan, sending
    from serving.campaign.outbox import REFUSED, SENDING
    from serving.campaign.service import Service
    from serving.errors import of_file
    from serving.options import number
except ModuleNotFoundError as error:
    installed = "install it with: pipenv sync --dev, and start with: pipenv run python campaign.py"
    sys.exit(f"campaign.py needs the package {error.name}; {installed}")


# The file descriptor of what is said beside the output.
STDERR = 2


def file(suffix: str) -> Any:
    """What reads an option that is a file of one kind."""

    def read(text: str) -> Path:
        if Path(text).suffix != suffix:
            raise argparse.ArgumentTypeError(f"{text} does not end in {suffix}")
        return Path(text)

    return read


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="plan, send or measure")
    money = number(0, 1e12)

    add = commands.add_parser(
        "plan", help="choose whom to write to, and whom to leave alone for comparison"
    ).add_argument
    add("customers", type=Path, metavar="CUSTOMERS", help="a table that the service scores, with addresses")
    add("--url", default="http://localhost:9696", help="the service (default: %(default)s)")
    add("--api-key", default=os.environ.get("SERVING_API_KEY"), help="(default: $SERVING_API_KEY)")
    add("--budget", type=number(1, kind=int), metavar="N", help="choose so many, the most probable")
    add("--threshold", type=number(0, 1), metavar="P", help="choose those of at least this probability")
    add("--value", type=money, metavar="MONEY", help="what one who is kept is worth; with --cost: choose who pays")
    add("--cost", type=money, metavar="MONEY", help="what a letter and its discount cost")
    add("--control", type=number(0, 1), default=0.1, metavar="SHARE", help="left alone (default: %(default)s)")
    add("--seed", type=number(0, kind=int), default=1, help="of who is left alone (default: %(default)s)")
    add("--email", metavar="COLUMN", help="the addresses (default: the first column with mail in its name)")
    add("--output", type=file(".csv"), default=Path("campaign.csv"), metavar="FILE", help="(default: %(default)s)")

    add = commands.add_parser("send", help="send the planned letters, each once").add_argument
    add("plan", type=Path, metavar="PLAN", help="what plan has written, perhaps edited since")
    add("--template", type=Path, required=True, metavar="FILE", help="the letter: its subject, then its text")
    add("--smtp", default="smtp://localhost:25", metavar="URL", help="smtp://[USER@]HOST:PORT or smtps://…, with the "
        "password in SMTP_PASSWORD (default: %(default)s)")  # fmt: skip
    add("--from", dest="sender", metavar="ADDRESS", help="(default: who you are on this machine)")
    add("--discount", metavar="PERCENT", help="what {discount} stands for (default: the plan's column, or else 25)")
    add("--rate", type=number(0.001), default=10.0, metavar="N", help="letters a second (default: %(default)s)")
    add("--skip", type=Path, metavar="FILE", help="addresses that get no letter, one a line or as a table")
    add("--unsubscribe", metavar="LINK", help="mailto:… or https://…, for the header List-Unsubscribe")
    retry = partial(add, dest="again", action="append_const", default=[])
    retry("--retry-unknown", const=SENDING, help="send those again that may have arrived")
    retry("--retry-refused", const=REFUSED, help="send those again that were refused for good")
    add("--dry-run", action="store_true", help="write the letters as .eml files instead")

    add = commands.add_parser("measure", help="compare what happened with and without a letter").add_argument
    add("plan", type=Path, metavar="PLAN", help="what plan has written")
    add("outcomes", type=Path, metavar="OUTCOMES", help="a table with ids and what happened")
    add("--id", metavar="COLUMN", help="(default: that of the plan's table)")
    add("--target", metavar="COLUMN", help="(default: what the model is about)")
    add("--positive", metavar="VALUE", help="the value that is a yes, where they are not yes and no")
    add("--value", type=money, metavar="MONEY", help="what one who was kept is worth")
    add("--cost", type=money, metavar="MONEY", help="what a letter and its discount cost")
    add("--report", type=file(".html"), default=Path("campaign.html"), metavar="FILE", help="(default: %(default)s)")
    args = parser.parse_args()
    if args.command == "plan":
        ways = [args.budget is not None, args.threshold is not None, args.value is not None and args.cost is not None]
        if sum(ways) != 1:
            parser.error("plan: say whom to choose, by one of --budget N, --threshold P, or --value MONEY --cost MONEY")
    return args


def plan_it(args: argparse.Namespace) -> int:
    asked = plan.Asked(**{name: getattr(args, name) for name in plan.Asked.__struct_fields__})
    print(*plan.make(Service(args.url, args.api_key), args.customers, asked, args.output), sep="\n")
    return 0


def send(args: argparse.Namespace) -> int:
    skipped = letters.addresses(args.skip) if args.skip else set()
    path = args.plan.resolve()  # so that whatever it is reached by, it is known what was sent
    people = letters.read(path)
    group = [each for each in people if each.group == plan.LETTER]
    chosen = [each for each in group if each.email.lower() not in skipped]
    more = {"discount": args.discount or "25"} if args.discount or "discount" not in people[0].cells else {}
    try:
        sender = args.sender or f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError) as error:  # a container's user may have no name
        raise BadCampaign("who you are on this machine is not known: say with --from who writes") from error
    written = letters.Letters(args.template, sender, more, args.unsubscribe)
    written.check(chosen)
    print(f"letters from {sender}: {len(chosen):,}, and {len(group) - len(chosen):,} skipped", flush=True)
    if args.dry_run:
        folder = path.with_name(f"{path.stem}-letters")
        written.save(chosen, folder)
        print(f"they are in {folder}, and nothing is sent")
        return 0
    server, stop = sending.Server(args.smtp, os.environ.get("SMTP_PASSWORD", "")), sending.Stop()
    under_way = sending.Sending(written, server, args.rate, stop)
    heed_signals(stop)  # no sooner: until it is connected, they end it
    return 0 if sending.send(path, people, chosen, under_way, args.again) else 1


def heed_signals(stop: sending.Stop) -> None:
    """Have Ctrl-C, SIGTERM and SIGHUP ask for a stop: the letter under way is sent and noted. The second one ends at
    once."""
    heeded = [signal.SIGINT, signal.SIGTERM]
    if getattr(signal, "SIGHUP", None) and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as it is under nohup
        heeded.append(signal.SIGHUP)

    def end(*_: object) -> None:
        stop.is_asked = True
        for each in heeded:
            signal.signal(each, signal.SIG_DFL)
        with suppress(OSError):  # the terminal may be gone; not print, whose file the progress bar may be writing to
            os.write(STDERR, b"campaign.py: ending after this letter\n")

    for each in heeded:
        signal.signal(each, end)


def measure_it(args: argparse.Namespace) -> int:
    from serving.campaign import measure  # noqa: PLC0415 (it takes seconds, which the other commands need not wait)

    asked = measure.Asked(**{name: getattr(args, name) for name in measure.Asked.__struct_fields__})
    print(*measure.measure(args.plan.resolve(), args.outcomes, asked, args.report), sep="\n")
    return 0


def main() -> int:
    args = arguments()
    if isinstance(sys.stdout, TextIOWrapper):  # stderr is never strict
        sys.stdout.reconfigure(errors="replace")
    try:
        return {"plan": plan_it, "send": send, "measure": measure_it}[args.command](args)
    except BadCampaign as error:
        sys.exit(f"campaign.py: {error}")
    except OSError as error:
        sys.exit(f"campaign.py: {of_file(error)}")
    except KeyboardInterrupt:
        sys.exit("campaign.py: stopped")


if __name__ == "__main__":
    sys.exit(main())
