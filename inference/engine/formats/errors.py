"""Why a file is not read."""

from __future__ import annotations


class ImageError(ValueError):
    """A file that can't be read as an image, with a stable ``code`` and the rest of a sentence for the user.

    Codes: ``empty``, ``not_an_image``, ``unsupported`` (an image of a kind that is not read), ``damaged``,
    ``too_many_pixels``, ``too_small``, ``undecodable`` (it would take more memory or time than allowed).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


#: So many zeros at the end of compressed data are no data: the file was cut off and filled up.
PADDING = 64
#: Below this side length there is no tissue structure to see.
MIN_SIDE = 16


def damaged() -> ImageError:
    return ImageError("damaged", "is damaged or cut off and can't be read")


def unsupported(what: str, advice: str = "Save it as an RGB TIFF or PNG with 8 bits a channel.") -> ImageError:
    """``what`` completes the sentence "The file …"; ``advice`` says what to do."""
    return ImageError("unsupported", f"{what}. {advice}")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises :class:`ImageError`; to be called before any pixel is decoded."""
    if width * height > max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"has {width}x{height} pixels, more than the limit of {max_pixels / 1e6:g} megapixels",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError("too_small", f"has {width}x{height} pixels; at least {MIN_SIDE} a side are needed")


def check_padding(data: bytes) -> None:
    """For compressed data whose decoders take zeros for pixels. Raises :class:`ImageError`."""
    if data.endswith(bytes(PADDING)):
        raise damaged()
