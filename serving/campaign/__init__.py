"""A campaign: a plan of who is written to, their letters, and what these were worth.

It asks the service over HTTP as others do. What it says to people is in the templates beside this file.
"""

from pathlib import Path

# Where its templates are.
FOLDER = Path(__file__).parent


class BadCampaign(Exception):
    """A campaign cannot go on; the message says why and what to do."""
