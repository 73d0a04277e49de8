"""``python -m pytest_vdsotime`` is the ``vdsotime`` command."""

from pytest_vdsotime.cli import main

if __name__ == "__main__":
    main()
