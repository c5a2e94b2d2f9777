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
use crate::clock::Deadline;
use crate::store::objects::SESSION_METADATA;

/// The one attribute that is kept, where the file system keeps extended attributes: the session that wrote the file.
pub(super) const SESSION: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed(SESSION_METADATA));

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
            let by = options.extensions.get().copied().unwrap_or(Deadline::NEVER);
            root.write(&root.file(&name)?, payload, session, condition, by)
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::PathBuf;

    use object_store::{Error, GetRange, ObjectStoreExt, UpdateVersion};

    use super::*;
    use crate::store::local::meaning;

    fn open() -> (tempfile::TempDir, LocalDirectory) {
        let place = tempfile::tempdir().unwrap();
        let store = LocalDirectory::open(place.path()).unwrap();
        (place, store)
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn update(tag: &Option<String>) -> PutMode {
        PutMode::Update(UpdateVersion {
            e_tag: tag.clone(),
            version: None,
        })
    }

    fn is_obstructed(error: &Error) -> bool {
        matches!(meaning(error), Some(crate::store::Error::BadName(_)))
    }

    async fn names(store: &LocalDirectory, prefix: Option<&str>) -> Vec<String> {
        let metas: Vec<_> = store.list(prefix.map(name).as_ref()).try_collect().await.unwrap();
        let mut names: Vec<_> = metas.iter().map(|meta| meta.location.to_string()).collect();
        names.sort();
        names
    }

    /// What lies in the private folder besides the lock.
    fn leftovers(store: &LocalDirectory) -> Vec<PathBuf> {
        let private = store.root.temporary();
        private
            .parent()
            .unwrap()
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    #[tokio::test]
    async fn an_object_is_created_once_and_only_once() {
        let (_place, store) = open();
        let put = store
            .put_opts(&name("a/b"), "first".into(), PutMode::Create.into())
            .await
            .unwrap();
        let again = store
            .put_opts(&name("a/b"), "second".into(), PutMode::Create.into())
            .await
            .unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }));
        let got = store.get(&name("a/b")).await.unwrap();
        assert_eq!(got.meta.e_tag, put.e_tag);
        assert_eq!(got.bytes().await.unwrap(), "first");
        assert!(leftovers(&store).is_empty());
    }

    #[tokio::test]
    async fn the_tag_is_the_same_wherever_it_is_told() {
        let (_place, store) = open();
        let put = store.put(&name("file"), "content".into()).await.unwrap();
        assert!(
            put.e_tag
                .as_ref()
                .is_some_and(|tag| tag.starts_with('"') && tag.ends_with('"'))
        );
        assert_eq!(store.head(&name("file")).await.unwrap().e_tag, put.e_tag);
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed[0].e_tag, put.e_tag);
        assert_eq!(
            store.list_with_delimiter(None).await.unwrap().objects[0].e_tag,
            put.e_tag
        );
        assert_eq!(store.head(&name("file")).await.unwrap(), listed[0]);
    }

    #[tokio::test]
    async fn no_tag_ever_comes_back() {
        let (_place, store) = open();
        let mut tags = HashSet::new();
        for round in 0..200 {
            let content = if round % 2 == 0 { "even" } else { "odd." };
            let put = store.put(&name("file"), content.into()).await.unwrap();
            assert!(tags.insert(put.e_tag.unwrap()), "round {round}");
        }
    }

    #[tokio::test]
    async fn a_swap_needs_the_tag_of_what_is_there() {
        let (_place, store) = open();
        let file = name("record");
        let missing = store
            .put_opts(&file, "x".into(), update(&Some("\"1-2-3\"".into())).into())
            .await
            .unwrap_err();
        assert!(matches!(missing, Error::Precondition { .. }));
        let first = store.put(&file, "one".into()).await.unwrap();
        let second = store
            .put_opts(&file, "two".into(), update(&first.e_tag).into())
            .await
            .unwrap();
        assert_ne!(first.e_tag, second.e_tag);
        let stale = store
            .put_opts(&file, "three".into(), update(&first.e_tag).into())
            .await
            .unwrap_err();
        assert!(matches!(stale, Error::Precondition { .. }));
        let blind = store
            .put_opts(&file, "three".into(), update(&None).into())
            .await
            .unwrap_err();
        assert!(matches!(blind, Error::Precondition { .. }));
        assert_eq!(store.get(&file).await.unwrap().bytes().await.unwrap(), "two");
        assert!(leftovers(&store).is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_sixteen_who_create_one_wins() {
        let (_place, store) = open();
        for round in 0..10 {
            let file = name(&format!("round/{round}/file"));
            let writers = (0..16).map(|writer| {
                let (store, file) = (store.clone(), file.clone());
                tokio::spawn(async move {
                    let content = format!("writer {writer}");
                    let put = store
                        .put_opts(&file, content.clone().into(), PutMode::Create.into())
                        .await;
                    (content, put.map(|_| ()))
                })
            });
            let mut won = Vec::new();
            for writer in writers.collect::<Vec<_>>() {
                match writer.await.unwrap() {
                    (content, Ok(())) => won.push(content),
                    (_, Err(error)) => assert!(matches!(error, Error::AlreadyExists { .. }), "{error}"),
                }
            }
            assert_eq!(won.len(), 1);
            assert_eq!(store.get(&file).await.unwrap().bytes().await.unwrap(), won[0]);
        }
        assert!(leftovers(&store).is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_sixteen_who_swap_one_wins_each_time() {
        let (_place, store) = open();
        let file = name("counter");
        store.put(&file, "0".into()).await.unwrap();
        let writers = (0..16).map(|_| {
            let (store, file) = (store.clone(), file.clone());
            tokio::spawn(async move {
                let mut done = 0;
                while done < 5 {
                    let got = store.get(&file).await.unwrap();
                    let mode = update(&got.meta.e_tag);
                    let count: u64 = String::from_utf8(got.bytes().await.unwrap().to_vec())
                        .unwrap()
                        .parse()
                        .unwrap();
                    match store.put_opts(&file, (count + 1).to_string().into(), mode.into()).await {
                        Ok(_) => done += 1,
                        Err(error) => assert!(matches!(error, Error::Precondition { .. }), "{error}"),
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(store.get(&file).await.unwrap().bytes().await.unwrap(), "80");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn directories_that_come_and_go_lose_no_file() {
        let (_place, store) = open();
        let writers = (0..8).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..30 {
                    let file = name(&format!("top/a/b/c/{writer}"));
                    store.put_opts(&file, "x".into(), PutMode::Create.into()).await.unwrap();
                    store.delete(&file).await.unwrap();
                }
                store
                    .put(&name(&format!("top/a/b/c/{writer}")), "x".into())
                    .await
                    .unwrap();
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(names(&store, None).await.len(), 8);
    }

    #[tokio::test]
    async fn a_file_has_the_plain_name_of_its_object() {
        let (place, store) = open();
        let odd = [
            "Größe 1%.txt",
            "report#123",
            "a#1/b#2",
            "100%25.txt",
            "with space/ leading and trailing ",
            "~tilde[brackets]{braces}^`pipe|",
            "question?star*quote\"less<more>",
            "back\\slash",
            "...",
            ".hidden",
            "日本語/ファイル",
            "e\u{301} decomposed",
            "-dash",
        ];
        for text in odd {
            store
                .put_opts(&name(text), text.to_owned().into(), PutMode::Create.into())
                .await
                .unwrap();
            assert_eq!(std::fs::read_to_string(place.path().join(text)).unwrap(), text);
            assert_eq!(store.get(&name(text)).await.unwrap().bytes().await.unwrap(), text);
        }
        let mut expected: Vec<_> = odd.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(names(&store, None).await, expected);
        for text in odd {
            store.delete(&name(text)).await.unwrap();
        }
        assert!(names(&store, None).await.is_empty());
    }

    #[tokio::test]
    async fn names_that_no_file_can_have_are_told_apart() {
        let (place, store) = open();
        std::fs::create_dir(place.path().join("directory")).unwrap();
        std::fs::write(place.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", place.path().join("dangling")).unwrap();
        let long = "x".repeat(256);
        for text in [
            "directory",
            "file/below",
            "file/below/it",
            &long,
            ".bits-gateway/local/lock",
            ".bits-gateway/local",
        ] {
            let file = name(text);
            assert!(is_obstructed(&store.head(&file).await.unwrap_err()), "{text}");
            for mode in [PutMode::Create, PutMode::Overwrite] {
                let refused = store.put_opts(&file, "y".into(), mode.into()).await.unwrap_err();
                assert!(is_obstructed(&refused), "{text}: {refused}");
            }
            assert!(is_obstructed(&store.delete(&file).await.unwrap_err()), "{text}");
        }
        let refused = store
            .put_opts(&name("dangling"), "y".into(), PutMode::Create.into())
            .await
            .unwrap_err();
        assert!(is_obstructed(&refused));
        assert!(leftovers(&store).is_empty());
        assert!(matches!(
            store.head(&name("absent/file")).await.unwrap_err(),
            Error::NotFound { .. }
        ));
    }

    #[tokio::test]
    async fn a_pipe_is_no_object_and_hangs_nobody() {
        let (place, store) = open();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let pipe = place.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(is_obstructed(&store.get(&name("pipe")).await.unwrap_err()));
        assert!(names(&store, None).await.is_empty());
    }

    #[tokio::test]
    async fn conditions_and_ranges_of_reads_are_kept() {
        let (_place, store) = open();
        let file = name("file");
        let tag = store.put(&file, "0123456789".into()).await.unwrap().e_tag;
        let matching = GetOptions {
            if_match: tag.clone(),
            ..Default::default()
        };
        assert_eq!(
            store.get_opts(&file, matching).await.unwrap().bytes().await.unwrap(),
            "0123456789"
        );
        let other = GetOptions {
            if_match: Some("\"other\"".into()),
            ..Default::default()
        };
        assert!(matches!(
            store.get_opts(&file, other).await.unwrap_err(),
            Error::Precondition { .. }
        ));
        let known = GetOptions {
            if_none_match: tag,
            ..Default::default()
        };
        assert!(matches!(
            store.get_opts(&file, known).await.unwrap_err(),
            Error::NotModified { .. }
        ));

        let got = store
            .get_opts(
                &file,
                GetOptions {
                    range: Some(GetRange::Bounded(2..5)),
                    ..Default::default()
                },
            )
            .await;
        let got = got.unwrap();
        assert_eq!((got.range.clone(), got.meta.size), (2..5, 10));
        assert!(matches!(got.payload, GetResultPayload::File(..)));
        assert_eq!(got.bytes().await.unwrap(), "234");
        let suffix = GetOptions {
            range: Some(GetRange::Suffix(3)),
            ..Default::default()
        };
        assert_eq!(
            store.get_opts(&file, suffix).await.unwrap().bytes().await.unwrap(),
            "789"
        );
        let beyond = GetOptions {
            range: Some(GetRange::Offset(10)),
            ..Default::default()
        };
        store.get_opts(&file, beyond).await.unwrap_err();
        assert_eq!(store.get_ranges(&file, &[0..2, 8..10]).await.unwrap(), ["01", "89"]);
    }

    #[tokio::test]
    async fn an_opened_object_stays_what_it_was() {
        let (_place, store) = open();
        let file = name("file");
        store.put(&file, "old content".into()).await.unwrap();
        let got = store.get(&file).await.unwrap();
        store.put(&file, "new".into()).await.unwrap();
        assert_eq!(got.bytes().await.unwrap(), "old content");
    }

    #[tokio::test]
    async fn the_session_that_wrote_a_file_is_told_where_it_can_be_noted() {
        let (place, store) = open();
        let probe = std::fs::File::create(place.path().join("probe")).unwrap();
        let noted = rustix::fs::fsetxattr(&probe, "user.probe", b"x", rustix::fs::XattrFlags::empty()).is_ok();
        let mut attributes = Attributes::new();
        attributes.insert(SESSION, "some-session".into());
        attributes.insert(Attribute::ContentType, "text/plain".into());
        let options = PutOptions {
            mode: PutMode::Create,
            attributes,
            ..Default::default()
        };
        store.put_opts(&name("file"), "x".into(), options).await.unwrap();
        let got = store
            .get_opts(
                &name("file"),
                GetOptions {
                    head: true,
                    ..Default::default()
                },
            )
            .await
            .unwrap();
        assert_eq!(
            got.attributes.get(&SESSION).map(AsRef::as_ref),
            noted.then_some("some-session")
        );
        store.put(&name("file"), "y".into()).await.unwrap();
        assert!(store.get(&name("file")).await.unwrap().attributes.is_empty());
    }

    #[tokio::test]
    async fn lists_go_by_whole_segments_and_leave_out_the_private_folder() {
        let (place, store) = open();
        for text in [
            "x",
            "foo/bar",
            "foo/bar_baz/x",
            "foo/bar#1/y",
            ".bits-gateway/sessions/1/record",
        ] {
            store.put(&name(text), "x".into()).await.unwrap();
        }
        std::fs::create_dir_all(place.path().join("foo/empty/emptier")).unwrap();
        std::os::unix::fs::symlink(".", place.path().join("circle")).unwrap();
        let all = [
            ".bits-gateway/sessions/1/record",
            "foo/bar",
            "foo/bar#1/y",
            "foo/bar_baz/x",
            "x",
        ];
        assert_eq!(names(&store, None).await, all);
        assert_eq!(
            names(&store, Some("foo")).await,
            ["foo/bar", "foo/bar#1/y", "foo/bar_baz/x"]
        );
        assert!(names(&store, Some("foo/ba")).await.is_empty());
        assert!(names(&store, Some("foo/bar")).await.is_empty());
        assert!(names(&store, Some("foo/bar/below")).await.is_empty());
        assert!(names(&store, Some(".bits-gateway/local")).await.is_empty());

        let top = store.list_with_delimiter(None).await.unwrap();
        let mut prefixes: Vec<_> = top.common_prefixes.iter().map(Name::as_ref).collect();
        prefixes.sort_unstable();
        assert_eq!(prefixes, [".bits-gateway", "foo"]);
        assert_eq!(top.objects.len(), 1);
        let hidden = store.list_with_delimiter(Some(&name(".bits-gateway"))).await.unwrap();
        assert_eq!(hidden.common_prefixes, [name(".bits-gateway/sessions")]);
    }

    #[tokio::test]
    async fn long_lists_come_whole() {
        let (place, store) = open();
        std::fs::create_dir(place.path().join("many")).unwrap();
        for number in 0..2345 {
            std::fs::write(place.path().join(format!("many/{number}")), "").unwrap();
        }
        assert_eq!(names(&store, Some("many")).await.len(), 2345);
        assert_eq!(
            store
                .list_with_delimiter(Some(&name("many")))
                .await
                .unwrap()
                .objects
                .len(),
            2345
        );
        let offset = name("many/9");
        let after: Vec<_> = store
            .list_with_offset(Some(&name("many")), &offset)
            .try_collect()
            .await
            .unwrap();
        assert!(after.iter().all(|meta| meta.location > offset) && after.len() == 110);
    }

    #[tokio::test]
    async fn names_that_are_no_unicode_are_left_out() {
        let (place, store) = open();
        let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"bad-\xff");
        std::fs::write(place.path().join(odd), "").unwrap();
        std::fs::write(place.path().join("new\nline"), "").unwrap();
        std::fs::write(place.path().join("good"), "").unwrap();
        assert_eq!(names(&store, None).await, ["good"]);
    }

    #[tokio::test]
    async fn deleting_takes_empty_directories_along_but_not_the_topmost() {
        let (place, store) = open();
        store.put(&name("top/a/b/one"), "x".into()).await.unwrap();
        store.put(&name("top/a/two"), "x".into()).await.unwrap();
        store.delete(&name("top/a/b/one")).await.unwrap();
        assert!(!place.path().join("top/a/b").exists());
        store.delete(&name("top/a/two")).await.unwrap();
        assert!(!place.path().join("top/a").exists());
        assert!(place.path().join("top").is_dir());
        assert!(matches!(
            store.delete(&name("top/a/two")).await.unwrap_err(),
            Error::NotFound { .. }
        ));
    }

    #[tokio::test]
    async fn what_an_admin_changes_changes_the_tag() {
        let (place, store) = open();
        let put = store.put(&name("file"), "content".into()).await.unwrap();
        std::fs::write(place.path().join("file"), "CONTENT").unwrap();
        assert_ne!(store.head(&name("file")).await.unwrap().e_tag, put.e_tag);
        let stale = store
            .put_opts(&name("file"), "x".into(), update(&put.e_tag).into())
            .await
            .unwrap_err();
        assert!(matches!(stale, Error::Precondition { .. }));
    }

    #[tokio::test]
    async fn links_to_files_and_directories_are_followed_when_they_are_named() {
        let (place, store) = open();
        std::fs::create_dir(place.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", place.path().join("link")).unwrap();
        store.put(&name("link/file"), "x".into()).await.unwrap();
        assert_eq!(store.get(&name("real/file")).await.unwrap().bytes().await.unwrap(), "x");
    }

    #[tokio::test]
    async fn what_is_not_there_to_be_done_is_refused() {
        let (_place, store) = open();
        store.put(&name("a"), "x".into()).await.unwrap();
        assert!(matches!(
            store.copy(&name("a"), &name("b")).await.unwrap_err(),
            Error::NotSupported { .. }
        ));
        assert!(matches!(
            store.rename(&name("a"), &name("b")).await.unwrap_err(),
            Error::NotSupported { .. }
        ));
        assert!(matches!(
            store.put_multipart(&name("a")).await.err(),
            Some(Error::NotSupported { .. })
        ));
    }
}
