from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetSettingsRequest(_message.Message):
    __slots__ = ["kind", "tenant"]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., kind: _Optional[str] = ...) -> None: ...

class GetSettingsResponse(_message.Message):
    __slots__ = ["document", "revision"]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    revision: int
    def __init__(self, document: _Optional[bytes] = ..., revision: _Optional[int] = ...) -> None: ...

class PutSettingsRequest(_message.Message):
    __slots__ = ["document", "expected_revision", "kind", "tenant"]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    expected_revision: int
    kind: str
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., kind: _Optional[str] = ..., document: _Optional[bytes] = ..., expected_revision: _Optional[int] = ...) -> None: ...

class PutSettingsResponse(_message.Message):
    __slots__ = ["revision"]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...
