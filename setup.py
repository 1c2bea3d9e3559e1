"""The packages of `pinpoint`, whose folder is the repository's root: what pyproject.toml cannot find by itself."""

from setuptools import find_packages, setup

packages = ["pinpoint", *(f"pinpoint.{name}" for name in find_packages(exclude=["tests", "tests.*"]))]
setup(packages=packages, script_name="setup.py")  # its name keeps this file out of the wheel
