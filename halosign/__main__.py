"""Run the command line as `python -m halosign`."""

from importlib import import_module

from halosign.isolation import home_of

if __name__ == "__main__":
    import_module(home_of("flows.cli.main")).main()
