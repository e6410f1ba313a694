"""Packaging: everything that describes the project stands in settings.ini, which nbdev reads too."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(HERE / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]

library = settings["lib_name"]
readme = HERE / "README.md"
statuses = [
    "1 - Planning",
    "2 - Pre-Alpha",
    "3 - Alpha",
    "4 - Beta",
    "5 - Production/Stable",
    "6 - Mature",
    "7 - Inactive",
]

setup(
    name=library,
    version=settings["version"],
    description=settings["description"],
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    keywords=settings["keywords"],
    author=settings["author"],
    url=settings["git_url"],
    license="Apache-2.0",
    license_files=["LICENSE", f"{library}/assets/LICENSE.md"],
    classifiers=[
        f"Development Status :: {statuses[int(settings['status']) - 1]}",
        f"Intended Audience :: {settings['audience']}",
        f"Natural Language :: {settings['language']}",
        "Programming Language :: Python :: 3",
    ],
    packages=find_packages(include=[library, library + ".*"]),
    package_data={library: ["assets/**", "browser/**"]},
    include_package_data=False,
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require={extra: settings[f"{extra}_requirements"].split() for extra in ("dev", "ray")},
    entry_points={"console_scripts": settings["console_scripts"].split()},
    zip_safe=False,
)
