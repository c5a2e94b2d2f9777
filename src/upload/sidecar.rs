//! The digest of a published file as a file of its own, beside it (`checksum_sidecar`).
//!
//! A sidecar may be missing; it is never to be wrong. So the old one goes before a file takes the place of another, and the new one comes
//! after the record says that the file is published, and before the client hears of it: a turn that finds the file published makes sure of it.

use super::work::Work;
use super::{Asked, Place, Refused, key_of};
use crate::session::{ObjectTag, Phase};
use crate::store::Key;

/// What a sidecar is called beyond the name of its file.
const ENDING: &str = ".sha256";

/// Whether a file of this name can have a sidecar. Sidecars have none, and nobody uploads any.
pub(super) fn check(place: &Place, asked: &Asked) -> Result<(), Refused> {
    if !place.rules.checksum_sidecar {
        return Ok(());
    }
    let key = key_of(asked)?;
    if key.as_str().to_ascii_lowercase().ends_with(ENDING) {
        return Err(Refused::InvalidArgument(
            "names that end in .sha256 are those of digests here",
        ));
    }
    let sidecar = sidecar_of(&key).filter(|sidecar| place.store.admits(sidecar).is_ok());
    sidecar.map(drop).ok_or(Refused::InvalidArgument(
        "the name is too long for the file of its digest beside it",
    ))
}

fn sidecar_of(key: &Key) -> Option<Key> {
    Key::parse(&format!("{}{ENDING}", key.as_str())).ok()
}

impl Work<'_> {
    /// Where the digest of the file belongs, if it has to lie beside it.
    fn sidecar(&self) -> Option<Key> {
        let view = self.turn.view.as_ref()?;
        let is_wanted = self.place.rules.checksum_sidecar && !view.session.record.application;
        is_wanted.then(|| sidecar_of(&self.key)).flatten()
    }

    /// Takes away the digest of what is about to be replaced.
    pub(super) async fn clear_sidecar(&self) -> Result<(), Refused> {
        if let (Some(sidecar), Some(view)) = (self.sidecar(), &*self.turn.view) {
            let before = view.session.record.condition();
            let store = &self.place.store;
            store.remove_sidecar(&sidecar, &self.key, self.id, before).await?;
        }
        Ok(())
    }

    /// Makes sure of the digest of a published file: whenever a view begins to say that it is published, saved or loaded.
    pub(super) async fn keep_sidecar(&mut self) -> Result<(), Refused> {
        if let (Some(sidecar), Some((tag, text))) = (self.sidecar(), self.published_digest())
            && let Err(error) = self.place.store.put_sidecar(&sidecar, &self.key, &tag, text).await
        {
            // Nobody answers from a view that says published: whoever loads it anew comes by here.
            *self.turn.view = None;
            return Err(error.into());
        }
        Ok(())
    }

    /// Which file is published, and what its sidecar says: a line of `sha256sum`.
    fn published_digest(&self) -> Option<(ObjectTag, String)> {
        let view = self.turn.view.as_ref()?;
        let Phase::Published { tag } = &view.session.record.phase else {
            return None;
        };
        let sha256 = view.session.record.sha256?;
        let name = self.key.as_str().rsplit('/').next().unwrap_or_default();
        Some((tag.clone(), format!("{sha256}  {name}\n")))
    }
}
