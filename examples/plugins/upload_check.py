# SPDX-License-Identifier: Apache-2.0
"""
Check the files of a form: their number, their size, their type by their first bytes, and their names.

When to use it: in front of an application that stores what clients upload. Forms that parsers read differently are refused by
`request.files()`. Files of a valid type can still be harmful: a virus scanner is another step.

Task: Validation
Keywords: multipart, form-data, file upload, upload size limit, magic bytes, MIME type, file extension, image upload
"""

import re
from typing import Annotated, Final, Literal

import msgspec

from apisix import FormFile, Plugin, Reply, Request

Kind = Literal["png", "jpeg", "gif", "webp", "pdf"]
# For each kind: a pattern of its first bytes, the content-type, and the extensions.
_KINDS: Final[dict[str, tuple[re.Pattern[bytes], str, tuple[str, ...]]]] = {
    "png": (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png", (".png",)),
    "jpeg": (re.compile(rb"\xff\xd8\xff"), "image/jpeg", (".jpg", ".jpeg")),
    "gif": (re.compile(rb"GIF8[79]a"), "image/gif", (".gif",)),
    "webp": (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp", (".webp",)),
    "pdf": (re.compile(rb"%PDF-"), "application/pdf", (".pdf",)),
}


class UploadCheckConfig(msgspec.Struct, frozen=True):
    """The fields that may have a file, the kinds of files, and their limits."""

    fields: frozenset[str]
    kinds: Annotated[frozenset[Kind], msgspec.Meta(min_length=1)]
    max_files: Annotated[int, msgspec.Meta(ge=1)] = 5
    max_file_bytes: Annotated[int, msgspec.Meta(ge=1)] = 2 * 2**20


class UploadCheck(Plugin[UploadCheckConfig]):
    """Refuse forms with files that are not allowed."""

    def on_request(self, request: Request) -> Reply | None:
        types = request.headers.getall("content-type", [])
        if len(types) != 1 or types[0].partition(";")[0].strip().lower() != "multipart/form-data":
            return Reply(415, json={"error": "the body must be multipart/form-data"})
        try:
            files = request.files()
        except ValueError as error:
            return Reply(400, json={"error": str(error)})
        if len(files) > self.config.max_files:
            return Reply(413, json={"error": f"more than {self.config.max_files} files"})
        for field, file in files.items():
            if len(file) > self.config.max_file_bytes:
                return Reply(413, json={"error": f"a file has more than {self.config.max_file_bytes} bytes"})
            is_empty = not file.filename and not file.data  # a browser sends this if no file was selected
            if field not in self.config.fields or not (is_empty or self._is_allowed(file)):
                return Reply(415, json={"error": f"only these files are allowed: {', '.join(sorted(self.config.kinds))}"})
        return None

    def _is_allowed(self, file: FormFile) -> bool:
        name = file.filename
        if not name.isprintable() or set(name) & set('/\\:*?"<>|') or name.startswith(".") or len(name) > 100:
            return False  # "../../.ssh/authorized_keys"
        for pattern, content_type, extensions in (_KINDS[kind] for kind in self.config.kinds):
            # All three must agree, or a browser could be made to run an "image" as a script.
            if pattern.match(file.data) and file.content_type == content_type and name.lower().endswith(extensions):
                return True
        return False
