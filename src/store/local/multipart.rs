//! Uploads in parts: each part goes to its place in a staging file, which becomes the object.
//!
//! A staging file lies in a directory that is named as its object, so that the unfinished uploads to an object are
//! what is in that directory.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::PoisonError;

use object_store::PutPayload;
use object_store::path::Path as Name;
use uuid::Uuid;

use super::fault::Fault;
use super::file::{self, Facts};
use super::publish::Condition;
use super::root::Root;
use crate::bits::SessionId;
use crate::clock::{Timestamp, random_id};
use crate::session::{Before, ObjectTag};
use crate::staging::{PartId, PartRange, RecordedPart, UploadId};
use crate::store::{CompleteError, Error};

impl Root {
    /// Begins an upload: an empty staging file that survives a power cut.
    pub(super) fn begin_upload(&self, name: &Name, session: SessionId) -> Result<UploadId, Error> {
        self.file(name)?;
        let upload = random_id();
        let file = self.create(&self.staging(name, upload))?;
        file::note_session(&file, &session.as_key());
        Ok(UploadId(upload.simple().to_string()))
    }

    /// Writes a part to its place. Afterwards it survives a power cut.
    pub(super) fn write_part(
        &self,
        name: &Name,
        upload: &UploadId,
        part: PartRange,
        payload: &PutPayload,
    ) -> Result<PartId, Error> {
        if payload.content_length() as u64 != part.len() {
            let text = format!(
                "{} bytes were given for a part of {}",
                payload.content_length(),
                part.len()
            );
            return Err(Error::Corrupt(text));
        }
        let id = parse(upload).ok_or(Error::UnknownUpload)?;
        let path = self.staging(name, id);
        let _moved_by_nobody = self.upload(id).read().unwrap_or_else(PoisonError::into_inner);
        let file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::UnknownUpload),
            Err(error) => return Err(Fault::when("cannot open", &path)(error).into()),
        };
        let mut offset = part.from;
        for chunk in payload {
            file.write_all_at(chunk, offset)
                .map_err(Fault::when("cannot write", &path))?;
            offset += chunk.len() as u64;
        }
        file.sync_data().map_err(Fault::when("cannot sync", &path))?;
        Ok(part_id(part.from, part.to))
    }

    /// What the object will be known by once the upload is completed.
    pub(super) fn mark_of(&self, name: &Name, upload: &UploadId) -> Result<String, Error> {
        let id = parse(upload).ok_or(Error::UnknownUpload)?;
        match Facts::at(&self.staging(name, id))? {
            Some(facts) => Ok(facts.mark()),
            None => Err(Error::UnknownUpload),
        }
    }

    /// Makes the staging file the object, or finds that this has been done.
    pub(super) fn complete_upload(
        &self,
        name: &Name,
        session: SessionId,
        upload: &UploadId,
        parts: &[RecordedPart],
        before: &Before,
        mark: Option<&str>,
    ) -> Result<ObjectTag, CompleteError> {
        let size = size(parts)?;
        let to = self.file(name).map_err(Error::from)?;
        let id = parse(upload).ok_or(CompleteError::UnknownUpload)?;
        let from = self.staging(name, id);
        let _alone = self.upload(id).write().unwrap_or_else(PoisonError::into_inner);
        let file = match OpenOptions::new().write(true).open(&from) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self
                    .published(&to, session, mark, size)?
                    .ok_or(CompleteError::UnknownUpload);
            }
            Err(error) => return Err(Error::from(Fault::when("cannot open", &from)(error)).into()),
        };
        let staged = Facts::of(&file, &from).map_err(Error::from)?;
        if staged.size != size {
            return Err(CompleteError::InvalidPart(format!(
                "{} bytes are staged, not {size}",
                staged.size
            )));
        }
        if Facts::at(&to).is_ok_and(|there| there.is_some_and(|there| there.is_same_file(&staged))) {
            // Killed between the two steps of a rename that must not replace: the file has both names.
            self.settled(&to).map_err(Error::from)?;
            fs::remove_file(&from)
                .map_err(Fault::when("cannot remove", &from))
                .map_err(Error::from)?;
            return Ok(tag(&staged));
        }
        let stamped = file::stamp(&file, &from).map_err(Error::from)?;
        file.sync_all()
            .map_err(Fault::when("cannot sync", &from))
            .map_err(Error::from)?;
        let condition = match before {
            Before::Absent => Condition::Absent,
            // Without an ETag nothing can be held against it, and an empty one fits nothing.
            Before::Present(tag) => Condition::Unchanged(tag.etag.as_deref().unwrap_or_default()),
        };
        self.publish(&from, &to, condition).map_err(|fault| match fault {
            Fault::Exists | Fault::Changed | Fault::NotFound | Fault::Obstructed(_) => CompleteError::Changed,
            fault @ (Fault::Io { .. } | Fault::Stopped(_)) => CompleteError::Store(fault.into()),
        })?;
        Self::tidy(&self.uploads_to(name), &self.all_uploads());
        Ok(tag(&stamped))
    }

    /// The object at `to`, if it is what `session` published.
    fn published(
        &self,
        to: &Path,
        session: SessionId,
        mark: Option<&str>,
        size: u64,
    ) -> Result<Option<ObjectTag>, Error> {
        let (file, facts) = match file::open(to) {
            Ok(opened) => opened,
            Err(Fault::NotFound | Fault::Obstructed(_)) => return Ok(None),
            Err(fault) => return Err(fault.into()),
        };
        // A session publishes once. Where its id can't be noted on files, the mark tells.
        let ours = match file::noted_session(&file) {
            Some(noted) => noted == session.as_key(),
            None => mark == Some(facts.mark().as_str()),
        };
        if !ours || facts.size != size {
            return Ok(None);
        }
        self.settled(to)?;
        Ok(Some(tag(&facts)))
    }

    /// Forgets an upload and its parts.
    pub(super) fn abort_upload(&self, name: &Name, upload: &UploadId) -> Result<(), Error> {
        let Some(id) = parse(upload) else { return Ok(()) };
        let path = self.staging(name, id);
        let _alone = self.upload(id).write().unwrap_or_else(PoisonError::into_inner);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Fault::when("cannot remove", &path)(error).into()),
            _ => {
                Self::tidy(&self.uploads_to(name), &self.all_uploads());
                Ok(())
            }
        }
    }

    /// The unfinished uploads to an object and when they began.
    pub(super) fn uploads(&self, name: &Name) -> Result<Vec<(UploadId, Timestamp)>, Error> {
        let directory = self.uploads_to(name);
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(Fault::when("cannot read the directory", &directory)(error).into()),
        };
        let mut uploads = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(Fault::when("cannot read the directory", &directory))?
                .path();
            let id = path.file_name().and_then(|name| Uuid::try_parse(name.to_str()?).ok());
            let facts = match Facts::at(&path) {
                // A directory leads to the uploads to other objects.
                Err(Fault::Obstructed(_)) => None,
                facts => facts?,
            };
            if let (Some(id), Some(facts)) = (id, facts) {
                uploads.push((UploadId(id.simple().to_string()), facts.began().into()));
            }
        }
        Ok(uploads)
    }
}

/// An id comes out of a record: nothing but a GUID may become a file's name.
fn parse(upload: &UploadId) -> Option<Uuid> {
    Uuid::try_parse(&upload.0).ok()
}

/// What a part is called: its place.
fn part_id(from: u64, to: u64) -> PartId {
    PartId(format!("{from}-{to}"))
}

/// The size of the object that consists of `parts`, if they follow each other.
fn size(parts: &[RecordedPart]) -> Result<u64, CompleteError> {
    parts.iter().try_fold(0, |from, part| {
        if *part.id() == part_id(from, part.end()) {
            Ok(part.end())
        } else {
            Err(CompleteError::InvalidPart(format!(
                "{} does not follow what ends at {from}",
                part.id().0
            )))
        }
    })
}

fn tag(facts: &Facts) -> ObjectTag {
    ObjectTag {
        etag: Some(facts.etag()),
        version: None,
        size: facts.size,
    }
}
