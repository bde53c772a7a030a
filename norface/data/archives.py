"""Pictures inside zip archives, read where they are: BP4D+ comes as one archive a person.

pixels = ZippedPicture(Path("2D+3D/F001.zip"), "F001/T1/2440.jpg").read()
"""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from pathlib import Path

import numpy as np

from norface.data.open_files import LastOpened, state_of
from norface.errors import CorpusError
from norface.images import MAX_PIXELS, decode_photo

MOST_BYTES = 3 * MAX_PIXELS
"A member that is larger is no photograph: the largest one has that many bytes without compression."


@dataclasses.dataclass(frozen=True)
class ZippedPicture:
    """One picture of an archive; a records.StoredPicture."""

    path: Path
    member: str
    "Its name inside the archive."

    def read(self) -> np.ndarray:
        """Pixels (H, W, 3), uint8, RGB.

        Raises CorpusError for a missing or damaged archive or picture, and for a member that would
        unpack to more than MOST_BYTES.
        """
        try:
            archive = _reading.at(self.path)
            if (size := archive.getinfo(self.member).file_size) > MOST_BYTES:
                raise CorpusError(f"{self}: unpacks to {size / 1e6:.0f} MB, no photograph; refused")
            data = archive.read(self.member)
        except KeyError:
            raise CorpusError(f"{self}: is not in the archive") from None
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
            raise CorpusError(f"{self}: damaged ({error}); copy the archive again") from None
        except (RuntimeError, NotImplementedError) as error:
            raise CorpusError(f"{self}: cannot be unpacked ({error}); unpack it by hand") from None
        return decode_photo(data, str(self))

    def __str__(self) -> str:
        return f"{self.path}/{self.member}"


def list_members(path: Path) -> list[str]:
    """Names of the files in an archive, in order of name. Raises CorpusError."""
    with _open(path) as archive:
        return sorted(name for name in archive.namelist() if not name.endswith("/"))


def _open(path: Path) -> zipfile.ZipFile:
    state_of(path)
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise CorpusError(
            f"{path}: not a zip archive, or damaged ({error}); copy it again"
        ) from None


_reading: LastOpened[zipfile.ZipFile] = LastOpened(_open, zipfile.ZipFile.close)
