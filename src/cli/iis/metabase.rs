//! Properties as the metabase keeps them: where they are set, and where they hold.

use std::collections::BTreeMap;

use super::document::{At, Wrong};

/// A place in the metabase of the web service: `LM/W3SVC/1/ROOT/upload`. IIS knows no letter case.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Key {
    /// All sites.
    Service,
    /// A site.
    Site(u32),
    /// A directory of a site, by its path in lower case: "/" or "/upload".
    Directory(u32, String),
}

impl Key {
    /// Reads `LM/W3SVC/1/ROOT/upload`; `None` for what is of no site.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut segments = text.split('/').filter(|segment| !segment.is_empty());
        if !segments.next()?.eq_ignore_ascii_case("LM") || !segments.next()?.eq_ignore_ascii_case("W3SVC") {
            return None;
        }
        let Some(site) = segments.next() else {
            return Some(Self::Service);
        };
        let site = site.parse().ok()?;
        let Some(root) = segments.next() else {
            return Some(Self::Site(site));
        };
        if !root.eq_ignore_ascii_case("ROOT") {
            return None;
        }
        let path: Vec<_> = segments.collect();
        Some(Self::Directory(site, folded(&path.join("/"))))
    }

    /// How near this is to the directory `path` of `site`: larger is nearer; `None` when it does not lie around it.
    fn nearness(&self, site: u32, path: &str) -> Option<usize> {
        match self {
            Self::Service => Some(0),
            Self::Site(own) => (*own == site).then_some(1),
            Self::Directory(own, around) => (*own == site && is_within(path, around)).then(|| 1 + around.len()),
        }
    }
}

/// A path in the one form in which paths are compared.
pub(super) fn folded(path: &str) -> String {
    format!("/{}", path.trim_matches('/').to_lowercase())
}

/// Whether `path` is `around` or below it, in whole segments. Both are folded.
pub(super) fn is_within(path: &str, around: &str) -> bool {
    match path.strip_prefix(around) {
        Some(rest) => around == "/" || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// A property that is set somewhere.
#[derive(Clone, Debug)]
pub(super) struct Property {
    pub(super) key: Key,
    /// The key as it is written: there letters count for nothing, here they do.
    pub(super) written: String,
    pub(super) called: Called,
    pub(super) value: String,
    /// Whether it holds below its key, too.
    pub(super) inherits: bool,
    pub(super) at: At,
}

/// What a property is called. In applicationHost.config it has a number only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Called {
    Name(String),
    Number(u32),
}

/// The one property that holds only where it is set (win32 documentation, BITS IIS extension properties).
pub(super) const UPLOAD_ENABLED: &str = "BITSUploadEnabled";

/// All properties that were found, and what their numbers mean.
#[derive(Debug, Default)]
pub(super) struct Metabase {
    pub(super) properties: Vec<Property>,
    /// Names by number, from MBSchema.xml or from the schema in the metabase itself.
    pub(super) names: BTreeMap<u32, String>,
}

impl Metabase {
    /// The name of a property, where a file tells it.
    fn name_of<'m>(&'m self, property: &'m Property) -> Option<&'m str> {
        match &property.called {
            Called::Name(name) => Some(name),
            Called::Number(number) => self.names.get(number).map(String::as_str),
        }
    }

    /// The properties of directories that have no name, which may be any.
    pub(super) fn nameless(&self) -> impl Iterator<Item = &Property> {
        self.properties
            .iter()
            .filter(|property| matches!(property.key, Key::Directory(..)) && self.name_of(property).is_none())
    }

    /// The directories in which uploads are enabled.
    pub(super) fn upload_directories(&self) -> Result<Vec<(u32, &str, &Property)>, Wrong> {
        let mut found = Vec::new();
        for property in &self.properties {
            if let Key::Directory(site, path) = &property.key
                && self.is_called(property, UPLOAD_ENABLED)
                && flag(property)?
            {
                found.push((*site, path.as_str(), property));
            }
        }
        found.sort_by_key(|(site, path, _)| (*site, *path));
        found.dedup_by_key(|(site, path, _)| (*site, *path));
        Ok(found)
    }

    fn is_called(&self, property: &Property, name: &str) -> bool {
        self.name_of(property).is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// What holds for the directory `path` of `site`: what is set nearest.
    pub(super) fn of(&self, site: u32, path: &str, name: &str) -> Option<&Property> {
        let around = self.properties.iter().filter_map(|property| {
            let nearness = property.key.nearness(site, path)?;
            let is_own = property.key == Key::Directory(site, path.to_owned());
            let holds = is_own || (property.inherits && name != UPLOAD_ENABLED);
            (holds && self.is_called(property, name)).then_some((nearness, property))
        });
        around
            .max_by_key(|(nearness, _)| *nearness)
            .map(|(_, property)| property)
    }
}

/// A property as yes or no.
pub(super) fn flag(property: &Property) -> Result<bool, Wrong> {
    match property.value.trim() {
        yes if yes.eq_ignore_ascii_case("true") => Ok(true),
        no if no.is_empty() || no.eq_ignore_ascii_case("false") => Ok(false),
        other => match number(property) {
            Ok(number) => Ok(number != 0),
            Err(_) => Err(property.at.wrong(format!("{other:?} is neither true nor false"))),
        },
    }
}

/// A property as a number.
pub(super) fn number(property: &Property) -> Result<u64, Wrong> {
    let text = property.value.trim();
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| property.at.wrong(format!("{text:?} is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_web_service_in_any_letter_case() {
        for (text, key) in [
            ("LM/W3SVC", Some(Key::Service)),
            ("/LM/W3SVC/2", Some(Key::Site(2))),
            ("lm/w3svc/1/root", Some(Key::Directory(1, "/".to_owned()))),
            (
                "/LM/W3SVC/1/ROOT/Up Load/In/",
                Some(Key::Directory(1, "/up load/in".to_owned())),
            ),
            ("LM/W3SVC/INFO", None),
            ("LM/W3SVC/1/FILTERS/x", None),
            ("LM/MSFTPSVC/1", None),
            ("", None),
        ] {
            assert_eq!(Key::parse(text), key, "{text}");
        }
    }

    #[test]
    fn a_directory_lies_within_those_whose_path_it_begins_with_in_whole_segments() {
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a") && is_within("/a", "/"));
        assert!(!is_within("/ab", "/a") && !is_within("/a", "/a/b"));
    }
}
