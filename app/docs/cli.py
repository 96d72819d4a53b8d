import click


@click.group()
def docs() -> None: ...
