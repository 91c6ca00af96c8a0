"""Models, recordings and their texts: fetched by name, version and SHA-256, kept in the user's cache.

`tests/real_files` has the models, the LibriVox sentences and the Italian prompts. What else a study needs
is fetched here in the same way: English prompts, and the texts of all recordings.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Debian packages: what they are called, their version, and the SHA-256 of the file.
PACKAGES = (
    ("asterisk-core-sounds-en-wav", "1.6.1-1", "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d"),
    ("asterisk-core-sounds-en", "1.6.1-1", "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50"),
    ("asterisk-core-sounds-it", "1.6.1-1", "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b"),
    ("pocketsphinx-testdata", "0.8+5prealpha+1-15", "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0"),
)
# What is taken of them, and the name that it gets.
TAKEN = (
    ("asterisk/sounds/en_US_f_Allison", "english"),
    ("doc/asterisk-core-sounds-en/core-sounds-en.txt.gz", "english.txt"),
    ("doc/asterisk-core-sounds-it/core-sounds-it.txt.gz", "italian.txt"),
    ("pocketsphinx/test/data/librivox/transcription", "librivox.txt"),
)


class Material:
    """Where everything is."""

    def __init__(self, real, texts):
        self.models = {"tiny-en": real / "models/tiny-en", "base": real / "models/base"}
        self.sounds = {"librivox": real / "sounds/librivox", "italian": real / "sounds/italian",
                       "english": texts / "english"}
        self.texts = {name: texts / f"{name}.txt" for name in ("librivox", "italian", "english")}


def have():
    """Fetches what is not there yet."""
    done = subprocess.run([ROOT / "tests/real_files"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return Material(Path(done.stdout.strip()), packages())


def packages():
    """The folder of what the packages hold; another list of them is another folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonograd"
    mark = hashlib.sha256(repr((PACKAGES, TAKEN)).encode()).hexdigest()[:12]
    place = cache / f"real-study-{mark}"
    if place.is_dir():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="real-study-") as work:
        work = Path(work)
        for name, version, _ in PACKAGES:
            run("apt-get", "download", f"{name}={version}", cwd=work)
        unpacked, new = work / "unpacked", work / "new"
        for file in work.glob("*.deb"):
            check(file)
            run("dpkg-deb", "-x", file, unpacked)
        new.mkdir()
        for source, name in TAKEN:
            source = unpacked / "usr/share" / source
            if source.suffix == ".gz":
                (new / name).write_bytes(gzip.decompress(source.read_bytes()))
            else:
                shutil.move(source, new / name)
        # In one step: a folder that is there is whole.
        new.rename(place)
    return place


def check(file):
    name = file.name.split("_")[0]
    wanted = {package: digest for package, _, digest in PACKAGES}[name]
    if hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
        sys.exit(f"{name}: not the file that was expected")


def run(*command, cwd=None):
    done = subprocess.run(list(map(str, command)), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        lines = done.stdout.strip().splitlines() or [""]
        sys.exit(f"{command[0]}: {lines[-1]}; apt-get update may be wanted")
