//! Files as objects.

use std::fmt;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path as Name;
use object_store::{
    Attribute, Attributes, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use super::LocalDirectory;
use super::fault::Fault;
use super::file::{self, Facts};
use super::publish::Condition;
use super::root::Root;
use super::walk::{Found, Walk};
use crate::store::objects::SESSION_METADATA;

/// The one attribute that is kept, where the file system keeps extended attributes: the session that wrote the file.
const SESSION: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed(SESSION_METADATA));

/// Deletions at once, per stream.
const DELETIONS: usize = 10;

#[async_trait]
impl ObjectStore for LocalDirectory {
    /// Attributes other than the session, and tags, are ignored: a plain file has no place for them.
    async fn put_opts(&self, location: &Name, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let name = location.clone();
        let put = self.write(payload.content_length(), move |root| {
            let session = options.attributes.get(&SESSION).map(AsRef::as_ref);
            let condition = match &options.mode {
                PutMode::Create => Condition::Absent,
                PutMode::Overwrite => Condition::Any,
                PutMode::Update(version) => Condition::Unchanged(version.e_tag.as_deref().unwrap_or_default()),
            };
            root.write(&root.file(&name)?, payload, session, condition)
        });
        let facts = put.await.map_err(|fault| fault.about(location))?;
        Ok(PutResult {
            e_tag: Some(facts.etag()),
            version: None,
            extensions: Default::default(),
        })
    }

    async fn put_multipart_opts(&self, _: &Name, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(not_supported("uploads that end with the process that began them"))
    }

    /// Always gives the file itself.
    async fn get_opts(&self, location: &Name, options: GetOptions) -> Result<GetResult> {
        let name = location.clone();
        let got = self.read(move |root| Ok::<_, Fault>(get(root, name, &options))).await;
        got.map_err(|fault| fault.about(location))?
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Name>>) -> BoxStream<'static, Result<Name>> {
        let this = self.clone();
        let deletion = move |location: Result<Name>| {
            let this = this.clone();
            async move {
                let location = location?;
                let name = location.clone();
                let deleted = this.write(0, move |root| root.remove(&root.file(&name)?)).await;
                deleted.map_err(|fault| fault.about(&location))?;
                Ok(location)
            }
        };
        locations.map(deletion).buffered(DELETIONS).boxed()
    }

    fn list(&self, prefix: Option<&Name>) -> BoxStream<'static, Result<ObjectMeta>> {
        let about = prefix.cloned().unwrap_or_default();
        let walk = Some(Walk::everything(self.root.clone(), prefix));
        let batches = stream::try_unfold((self.clone(), about, walk), |(this, about, walk)| async move {
            let Some(walk) = walk else {
                return Ok::<_, object_store::Error>(None);
            };
            let (found, rest) = this.step(walk).await.map_err(|fault| fault.about(&about))?;
            let metas = found.into_iter().filter_map(|found| match found {
                Found::File(name, facts) => Some(Ok(meta(name, &facts))),
                Found::Directory(_) => None,
            });
            Ok(Some((stream::iter(metas.collect::<Vec<_>>()), (this, about, rest))))
        });
        batches.try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Name>) -> Result<ListResult> {
        let mut result = ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
            extensions: Default::default(),
        };
        let mut walk = Some(Walk::directory(self.root.clone(), prefix));
        while let Some(going) = walk {
            let (found, rest) = self
                .step(going)
                .await
                .map_err(|fault| fault.about(prefix.unwrap_or(&Name::ROOT)))?;
            for found in found {
                match found {
                    Found::File(name, facts) => result.objects.push(meta(name, &facts)),
                    Found::Directory(name) => result.common_prefixes.push(name),
                }
            }
            walk = rest;
        }
        Ok(result)
    }

    async fn copy_opts(&self, _: &Name, _: &Name, _: CopyOptions) -> Result<()> {
        Err(not_supported("copies"))
    }

    async fn rename_opts(&self, _: &Name, _: &Name, _: RenameOptions) -> Result<()> {
        Err(not_supported("renames"))
    }
}

impl LocalDirectory {
    /// A batch, and the rest of the walk unless it is over.
    async fn step(&self, walk: Walk) -> std::result::Result<(Vec<Found>, Option<Walk>), Fault> {
        self.read(move |_| walk.batch()).await
    }
}

impl fmt::Display for LocalDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalDirectory({})", self.root.path().display())
    }
}

fn get(root: &Root, name: Name, options: &GetOptions) -> Result<GetResult> {
    let opened = root.file(&name).and_then(|path| {
        let (file, facts) = file::open(&path)?;
        // What is told from here on may be acted upon.
        root.settled(&path)?;
        Ok((path, file, facts))
    });
    let (path, file, facts) = opened.map_err(|fault| fault.about(&name))?;
    let meta = meta(name, &facts);
    options.check_preconditions(&meta)?;
    let range = match &options.range {
        None => 0..meta.size,
        Some(range) => range
            .as_range(meta.size)
            .map_err(|source| object_store::Error::Generic {
                store: "LocalDirectory",
                source: source.into(),
            })?,
    };
    let mut attributes = Attributes::new();
    if let Some(session) = file::noted_session(&file) {
        attributes.insert(SESSION, session.into());
    }
    Ok(GetResult {
        payload: GetResultPayload::File(file, path),
        meta,
        range,
        attributes,
        extensions: Default::default(),
    })
}

fn meta(location: Name, facts: &Facts) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: facts.modified.into(),
        size: facts.size,
        e_tag: Some(facts.etag()),
        version: None,
    }
}

fn not_supported(what: &str) -> object_store::Error {
    object_store::Error::NotSupported {
        source: format!("a local directory does not do {what}").into(),
    }
}
