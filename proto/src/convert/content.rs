//! Secrets and configs.

use super::fields::{ConvertError, Fields};
use crate::id::Timestamp;
use crate::object::NamedContent;
use crate::spec::{ContentId, ContentSpec, FileMount};
use crate::wire;

impl From<&ContentId> for wire::ContentId {
    fn from(content: &ContentId) -> Self {
        Self { kind: content.kind.into(), digest: content.digest.to_string() }
    }
}

impl TryFrom<wire::ContentId> for ContentId {
    type Error = ConvertError;

    fn try_from(content: wire::ContentId) -> Result<Self, ConvertError> {
        let at = Fields("ContentId");
        Ok(Self {
            kind: at.enumeration::<wire::ContentKind, _>("kind", content.kind)?,
            digest: at.text("digest", &content.digest)?,
        })
    }
}

impl From<&ContentSpec> for wire::ContentSpec {
    fn from(content: &ContentSpec) -> Self {
        Self {
            name: content.name.clone(),
            external: content.external,
            digest: content.digest.as_ref().map(ToString::to_string),
            labels: content.labels.clone(),
        }
    }
}

impl TryFrom<wire::ContentSpec> for ContentSpec {
    type Error = ConvertError;

    fn try_from(content: wire::ContentSpec) -> Result<Self, ConvertError> {
        let at = Fields("ContentSpec");
        Ok(Self {
            name: content.name,
            external: content.external,
            digest: content.digest.map(|digest| at.text("digest", &digest)).transpose()?,
            labels: content.labels,
        })
    }
}

impl From<&FileMount> for wire::FileMount {
    fn from(file: &FileMount) -> Self {
        Self {
            kind: file.kind.into(),
            source: file.source.clone(),
            digest: file.digest.as_ref().map(ToString::to_string),
            target: file.target.clone(),
            uid: file.uid,
            gid: file.gid,
            mode: file.mode,
        }
    }
}

impl TryFrom<wire::FileMount> for FileMount {
    type Error = ConvertError;

    fn try_from(file: wire::FileMount) -> Result<Self, ConvertError> {
        let at = Fields("FileMount");
        Ok(Self {
            kind: at.enumeration::<wire::ContentKind, _>("kind", file.kind)?,
            source: file.source,
            digest: file.digest.map(|digest| at.text("digest", &digest)).transpose()?,
            target: file.target,
            uid: file.uid,
            gid: file.gid,
            mode: file.mode,
        })
    }
}

impl From<&NamedContent> for wire::NamedContent {
    fn from(content: &NamedContent) -> Self {
        Self {
            kind: content.kind.into(),
            name: content.name.clone(),
            digest: content.digest.to_string(),
            size: content.size,
            labels: content.labels.clone(),
            created_at: content.created_at.0,
        }
    }
}

impl TryFrom<wire::NamedContent> for NamedContent {
    type Error = ConvertError;

    fn try_from(content: wire::NamedContent) -> Result<Self, ConvertError> {
        let at = Fields("NamedContent");
        Ok(Self {
            kind: at.enumeration::<wire::ContentKind, _>("kind", content.kind)?,
            name: content.name,
            digest: at.text("digest", &content.digest)?,
            size: content.size,
            labels: content.labels,
            created_at: Timestamp(content.created_at),
        })
    }
}
