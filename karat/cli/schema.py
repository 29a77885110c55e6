"""`karat schema`: what a campaign file may hold, as JSON schema.

Checked: tests/campaign/test_json_schema.py.
"""

import json

import typer


def schema() -> None:
    """Print the JSON schema of campaign files, with every component's settings.

    Editors with a YAML language server complete and check campaigns with it.

    Examples:

        karat schema > karat.schema.json
    """
    from karat.campaign.json_schema import campaign_schema

    typer.echo(json.dumps(campaign_schema(), indent=1))
