//! Sidecars: small objects beside published files that say something about them.

use bytes::Bytes;
use futures::stream::TryStreamExt;
use object_store::{GetOptions, ObjectStoreExt, PutMode, PutPayload};

use super::content::content;
use super::objects::{Standing, look_at, same_object, standing};
use super::patience::{Patience, Unclear, briefly, worn_out};
use super::records::Version;
use super::tails::same_bytes;
use super::{Error, Key, Store};
use crate::bits::SessionId;
use crate::session::{Before, ObjectTag};

/// Bytes of the longest sidecar that is ever read back: one that somebody else made may be of any size.
const LONGEST: u64 = 4096;

impl Store {
    /// Removes the sidecar of what `key` was, right before a file of `session` takes its place: a wrong one is worse than none. It stays where
    /// the file can't take the place any more, because somebody else did.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn remove_sidecar(
        &self,
        sidecar: &Key,
        key: &Key,
        session: SessionId,
        before: &Before,
    ) -> Result<(), Error> {
        let path = self.path(sidecar)?;
        if look_at(self.objects_at(sidecar), &path).await?.is_none() {
            return Ok(());
        }
        let seen = look_at(self.objects_at(key), &self.path(key)?).await?;
        // The size matters only to a file of this session, whose sidecar is as right as it.
        let size = seen.as_ref().map_or(0, |seen| seen.tag.size);
        if standing(seen.as_ref(), session, size, before) != Standing::AsBefore {
            return Ok(());
        }
        match briefly(self.objects_at(sidecar).delete(&path)).await {
            Ok(()) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts `text` as the sidecar of the file that `key` shows, as long as that is the one of `tag`. It may be repeated.
    ///
    /// Whoever publishes over the file later removes this sidecar first, or replaces it when it comes late: it is created where there is
    /// none, and replaces only what was looked at before the file was found to be the right one.
    ///
    /// # Errors
    /// Trouble with the store.
    pub async fn put_sidecar(&self, sidecar: &Key, key: &Key, tag: &ObjectTag, text: String) -> Result<(), Error> {
        let path = self.path(sidecar)?;
        let payload = PutPayload::from(text);
        let mut patience = Patience::new();
        loop {
            let mode = match self.sidecar(sidecar).await? {
                Some((_, found)) if same_bytes(&found, payload.as_ref()) => return Ok(()),
                Some((version, _)) => version.update(),
                None => PutMode::Create,
            };
            let seen = look_at(self.objects_at(key), &self.path(key)?).await?;
            if !seen.is_some_and(|seen| same_object(&seen.tag, tag)) {
                return Ok(());
            }
            let put = self.objects_at(sidecar).put_opts(&path, payload.clone(), mode.into());
            let last = match put.await.map_err(|error| Unclear::from(Error::from(error))) {
                Ok(_) => return Ok(()),
                Err(Unclear::Failed(error)) => return Err(error),
                Err(Unclear::Look(error)) => error,
            };
            if !patience.again().await {
                return Err(worn_out(last));
            }
        }
    }

    /// What the sidecar is, and its first bytes.
    async fn sidecar(&self, sidecar: &Key) -> Result<Option<(Version, Vec<Bytes>)>, Error> {
        let path = self.path(sidecar)?;
        let found = match briefly(self.objects_at(sidecar).get_opts(&path, GetOptions::default())).await {
            Ok(found) => found,
            Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = Version::of(&found.meta);
        if found.meta.size > LONGEST {
            return Ok(Some((version, Vec::new())));
        }
        Ok(Some((version, content(found).try_collect().await?)))
    }
}
