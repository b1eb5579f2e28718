"""What a finished run leaves behind: its folder, and the manifest that says where every number came from."""

from dftbparam.publish.files import prepare_file, prepare_folder, write_bytes, write_csv, write_json
from dftbparam.publish.manifest import (
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    ReferenceRecord,
    public_command,
    public_path,
    read_manifest,
    record_files,
    verify_folder,
    versions,
    write_manifest,
)
from dftbparam.publish.run_folder import reference_record, write_run_folder

__all__ = [
    "MANIFEST_NAME",
    "FileRecord",
    "Manifest",
    "ReferenceRecord",
    "prepare_file",
    "prepare_folder",
    "public_command",
    "public_path",
    "read_manifest",
    "record_files",
    "reference_record",
    "verify_folder",
    "versions",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_manifest",
    "write_run_folder",
]
