//! Where the server application is told: the rules of its URL (win32 documentation, BITSServerNotificationURL). Pure.

use url::Url;

use crate::units::HttpOrigin;

/// The URL of a server application, as it was configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// One for all uploads.
    Absolute(Url),
    /// Taken from the directory of the upload's URL, on this origin.
    Relative {
        /// Where.
        origin: Url,
        /// A path, relative or absolute, and perhaps a query.
        reference: String,
    },
}

impl Target {
    /// The target that `url` names, relative to `origin` if it is relative.
    ///
    /// # Errors
    /// A sentence for whoever wrote the settings.
    pub fn parse(url: &str, origin: Option<&HttpOrigin>) -> Result<Self, String> {
        match Url::parse(url) {
            Ok(url) => {
                if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
                    return Err(format!("{url} is neither http:// nor https:// nor relative"));
                }
                if !url.username().is_empty() || url.password().is_some() {
                    return Err(
                        "a URL with a user name or password in it is refused: `authorization` keeps them out of logs"
                            .to_owned(),
                    );
                }
                if url.fragment().is_some() {
                    return Err("it has a fragment, which no server sees".to_owned());
                }
                Ok(Self::Absolute(url))
            }
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                let origin = origin.ok_or("it is relative, so `origin` has to say which server it is on")?;
                let origin = Url::parse(&origin.to_string()).map_err(|error| error.to_string())?;
                if url.is_empty() || url.starts_with("//") || url.contains(['#', '\\']) {
                    return Err(format!("{url:?} is not a path"));
                }
                let joined = origin.join(url).map_err(|error| format!("{url:?}: {error}"))?;
                if joined.origin() != origin.origin() {
                    return Err(format!("{url:?} leads away from `origin`"));
                }
                Ok(Self::Relative {
                    origin,
                    reference: url.to_owned(),
                })
            }
            Err(error) => Err(format!("{url:?} is not a URL: {error}")),
        }
    }

    /// Whether it speaks https.
    pub fn tls(&self) -> bool {
        match self {
            Self::Absolute(url) | Self::Relative { origin: url, .. } => url.scheme() == "https",
        }
    }

    /// Where an upload is told of whose own URL is `original`: with the query of the upload appended, and its directory in front of a
    /// relative path. `None` when there is no such place, which no upload that was admitted leads to.
    pub fn of(&self, original: &str) -> Option<Url> {
        let (path, query) = path_and_query(original);
        let mut url = match self {
            Self::Absolute(url) => url.clone(),
            Self::Relative { origin, reference } => {
                let mut base = origin.clone();
                base.set_path(path);
                let joined = base.join(reference).ok()?;
                // Nothing that a client wrote may choose the server.
                (joined.origin() == origin.origin()).then_some(joined)?
            }
        };
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            let whole = match url.query() {
                Some(own) if !own.is_empty() => format!("{own}&{query}"),
                _ => query.to_owned(),
            };
            url.set_query(Some(&whole));
        }
        Some(url)
    }
}

/// The path and the query of an absolute URL, as they were written.
fn path_and_query(url: &str) -> (&str, Option<&str>) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let target = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str, original: &str) -> String {
        let origin = "http://app:81".parse().unwrap();
        let target = Target::parse(url, Some(&origin)).unwrap();
        target.of(original).unwrap().to_string()
    }

    /// win32 documentation, IIS extension properties: both of its examples, and what they leave open.
    #[test]
    fn the_query_of_the_upload_is_appended_and_a_relative_url_begins_in_its_directory() {
        for (url, original, expected) in [
            (
                "https://other/myvdir2/bag.asp",
                "https://h/myvdir/file.asp?ACCOUNT=86433",
                "https://other/myvdir2/bag.asp?ACCOUNT=86433",
            ),
            (
                "myasp.asp",
                "https://h/myvdir/file.txt",
                "http://app:81/myvdir/myasp.asp",
            ),
            ("myasp.asp", "http://h/a/b/f?x=1", "http://app:81/a/b/myasp.asp?x=1"),
            ("/in", "http://h/a/b/f?x=1", "http://app:81/in?x=1"),
            ("../in?k=v", "http://h/a/b/f?x=1&y", "http://app:81/a/in?k=v&x=1&y"),
            ("http://app/in?k=v", "http://h/f", "http://app/in?k=v"),
            ("http://app/in", "http://h/f?", "http://app/in"),
            ("http://app/in", "http://h/f?a b\"#c", "http://app/in?a%20b%22%23c"),
            ("http://app", "http://h", "http://app/"),
        ] {
            assert_eq!(told(url, original), expected);
        }
    }

    #[test]
    fn nothing_that_a_client_writes_chooses_the_server() {
        for original in [
            "http://evil//other/f",
            "http://evil:9/\\\\other/f",
            "http://evil/@other/f",
            "http://evil/http://other/f",
            "evil",
            "",
        ] {
            for url in ["in", "./in", "/in", "../in"] {
                let told = told(url, original);
                assert!(told.starts_with("http://app:81/"), "{original} and {url}: {told}");
            }
        }
    }

    #[test]
    fn a_url_that_names_no_server_of_ours_is_refused() {
        let origin = "http://app".parse().unwrap();
        for (url, origin, reason) in [
            (
                "in",
                None,
                "it is relative, so `origin` has to say which server it is on",
            ),
            (
                "ftp://app/in",
                Some(&origin),
                "ftp://app/in is neither http:// nor https:// nor relative",
            ),
            ("//other/in", Some(&origin), "\"//other/in\" is not a path"),
            ("\\\\other\\in", Some(&origin), "\"\\\\\\\\other\\\\in\" is not a path"),
            ("", Some(&origin), "\"\" is not a path"),
            (
                "http://app/#f",
                Some(&origin),
                "it has a fragment, which no server sees",
            ),
        ] {
            assert_eq!(Target::parse(url, origin).unwrap_err(), reason);
        }
        assert!(Target::parse("http://u:p@app/", None).unwrap_err().contains("refused"));
    }
}
