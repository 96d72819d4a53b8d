"""Where the lake's files are: a folder, or a bucket of any S3 store.

Only plain S3 calls are made (does the bucket exist, what is this object), so that every store will do.
A failure says which setting to look at; it never repeats a secret.
"""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from app.errors import CommandError
from app.paths import STATE
from app.settings import Settings

TIMEOUT_SECONDS = 10.0
PIECE_BYTES = 1 << 20


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A folder (bucket is empty) or a prefix of a bucket."""

    folder: str = ""
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""
    """host:port of the store."""
    is_tls: bool = True
    key: str = ""
    secret: str = ""
    region: str = ""

    @classmethod
    def of(cls, settings: Settings) -> "Place":
        """From the settings. Raises CommandError for one that can't be right."""
        url = settings.archive_url or f"file:{STATE / 'archive'}"
        parts = urlsplit(url)
        if parts.scheme == "file":
            path = parts.path
            if not path or parts.netloc:
                raise CommandError(
                    f"ARCHIVE_URL={url}: file: wants a path, as in file:/srv/archive"
                )
            return cls(folder=str(Path(path).absolute()))
        if parts.scheme != "s3" or not parts.netloc:
            raise CommandError(
                f"ARCHIVE_URL={url.partition('?')[0]}: use file:/a/folder or s3://bucket/prefix"
            )
        endpoint = urlsplit(settings.archive_s3_endpoint or "https://s3.amazonaws.com")
        if endpoint.scheme not in ("http", "https") or not endpoint.netloc:
            raise CommandError("ARCHIVE_S3_ENDPOINT: use http://host:port or https://host")
        return cls(
            bucket=parts.netloc,
            prefix=parts.path.strip("/"),
            endpoint=endpoint.netloc,
            is_tls=endpoint.scheme == "https",
            key=settings.archive_s3_key,
            secret=settings.archive_s3_secret,
            region=settings.archive_s3_region,
        )

    @property
    def data_path(self) -> str:
        """Where DuckDB puts the files."""
        if self.folder:
            return self.folder.rstrip("/") + "/"
        return f"s3://{self.bucket}/{self.prefix}/" if self.prefix else f"s3://{self.bucket}/"

    def check(self) -> None:
        """Raise CommandError where nothing can be put or found here."""
        if self.folder:
            try:
                Path(self.folder).mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise CommandError(f"ARCHIVE_URL: {self.folder}: {exc.strerror}") from None
            return
        try:
            found = self._client().bucket_exists(bucket_name=self.bucket)
        except S3Error as exc:
            raise CommandError(_refusal(exc)) from None
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
            raise CommandError(
                f"the store at {self.endpoint} can't be reached ({type(exc).__name__}); "
                "look at ARCHIVE_S3_ENDPOINT"
            ) from None
        if not found:
            raise CommandError(
                f"there is no bucket {self.bucket!r} at {self.endpoint}; make it, or mend ARCHIVE_URL"
            )

    def size_of(self, path: str) -> int | None:
        """Bytes of a file that the lake names; None: it is not there."""
        if self.folder:
            try:
                return Path(path).stat().st_size
            except FileNotFoundError:
                return None
        name = path.removeprefix(f"s3://{self.bucket}/")
        try:
            found = self._client().stat_object(bucket_name=self.bucket, object_name=name)
        except S3Error as exc:
            if exc.code in ("NoSuchKey", "NoSuchObject", "NoSuchBucket"):
                return None
            raise CommandError(_refusal(exc)) from None
        return found.size

    def sha256_of(self, path: str) -> str:
        """SHA-256 of a file that is there. Raises CommandError."""
        if self.folder:
            with Path(path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        name = path.removeprefix(f"s3://{self.bucket}/")
        found = hashlib.sha256()
        try:
            with self._client().get_object(bucket_name=self.bucket, object_name=name) as answer:
                for piece in answer.stream(PIECE_BYTES):
                    found.update(piece)
        except S3Error as exc:
            raise CommandError(_refusal(exc)) from None
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
            raise CommandError(
                f"the store at {self.endpoint} did not give a file ({type(exc).__name__})"
            ) from None
        return found.hexdigest()

    def upload(self, file: Path, name: str) -> None:
        """Put a file into the bucket. Raises CommandError."""
        key = f"{self.prefix}/{name}" if self.prefix else name
        try:
            self._client().fput_object(
                bucket_name=self.bucket, object_name=key, file_path=str(file)
            )
        except S3Error as exc:
            raise CommandError(_refusal(exc)) from None
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as exc:
            raise CommandError(
                f"the store at {self.endpoint} did not take a file ({type(exc).__name__})"
            ) from None

    def _client(self) -> Minio:
        http = urllib3.PoolManager(
            timeout=urllib3.Timeout(TIMEOUT_SECONDS), retries=urllib3.Retry(1, backoff_factor=0.2)
        )
        options: dict[str, Any] = {"http_client": http, "secure": self.is_tls}
        return Minio(
            endpoint=self.endpoint,
            access_key=self.key or None,
            secret_key=self.secret or None,
            region=self.region or "us-east-1",
            **options,
        )


def _refusal(exc: S3Error) -> str:
    return f"the store refuses us ({exc.code}); look at ARCHIVE_S3_KEY and ARCHIVE_S3_SECRET"
