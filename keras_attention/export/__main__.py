"""`python -m keras_attention.export audit DIRECTORY`: can a server run this SavedModel?"""

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if it can; 1, with a message, if it cannot or there is no SavedModel."""
    parser = argparse.ArgumentParser("python -m keras_attention.export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="audit")
    command = commands.add_parser("audit", help="list the ops, and the servers that have them")
    command.add_argument("directory", help="a SavedModel")
    directory = parser.parse_args(arguments).directory
    from keras_attention.export.audit import audit, report

    try:
        found = audit(directory)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(report(found))
    return 1 if found.oldest_serving is None else 0


if __name__ == "__main__":
    sys.exit(main())
