//! What was found in file, environment and flags, before it means anything, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where a value was given.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// Nowhere: the default stands.
    Default,
    /// The file as a whole.
    Whole(Arc<str>),
    /// In the file.
    File {
        /// Its name, as it was given.
        file: Arc<str>,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// In an environment variable of this name.
    Variable(String),
    /// After a flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Whole(file) => f.write_str(file),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Something wrong with the configuration.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Which key, with the sections it stands in: `routes[0].part_size`. Empty when the text is not TOML at all.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

/// A value that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub value: Value,
    /// Where it is.
    pub place: Place,
}

/// A key that was found, with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where the key is.
    pub key: Place,
    /// Its value.
    pub found: Found,
}

/// The keys of a section that were found.
pub type Table = BTreeMap<String, Entry>;

/// What a value is, before it means anything.
#[derive(Clone, Debug)]
pub enum Value {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Whole(i64),
    /// Something that no key takes: its name, with its article.
    Foreign(&'static str),
    /// Text between quotes.
    Text(String),
    /// Text of a variable or flag, where there are no quotes: it stands for whatever kind the key takes.
    Word(String),
    /// A list.
    List(Vec<Found>),
    /// A section.
    Table(Table),
}

impl Value {
    /// What it is called, with its article.
    pub const fn called(&self) -> &'static str {
        match self {
            Self::Flag(_) => "a boolean",
            Self::Whole(_) => "a number",
            Self::Foreign(name) => name,
            Self::Text(_) | Self::Word(_) => "text",
            Self::List(_) => "a list",
            Self::Table(_) => "a section",
        }
    }
}

impl Found {
    /// The text that it must be.
    pub fn text<'a>(&'a self, reading: &mut Reading<'_>) -> Option<&'a str> {
        match &self.value {
            Value::Text(text) | Value::Word(text) => Some(text),
            other => {
                reading.report(
                    &self.place,
                    format!("expected text between quotes, found {}", other.called()),
                );
                None
            }
        }
    }
}

/// A reading of the whole configuration under way: where it stands, and what it found wrong.
#[derive(Debug)]
pub struct Reading<'a> {
    /// The environment, for values that name a variable.
    pub variables: &'a BTreeMap<String, String>,
    everywhere: Vec<(String, &'static str)>,
    path: String,
    section: Place,
    problems: Vec<Problem>,
    places: BTreeMap<String, Place>,
}

impl<'a> Reading<'a> {
    /// A reading that has seen nothing. `section` is where the outermost section is, `everywhere` what sections there are and
    /// the keys of each.
    pub fn new(
        variables: &'a BTreeMap<String, String>,
        section: Place,
        everywhere: Vec<(String, &'static str)>,
    ) -> Self {
        Self {
            variables,
            everywhere,
            path: String::new(),
            section,
            problems: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    /// What is wrong, and where each key that was read is, both by the names of their keys.
    pub fn finish(self) -> (Vec<Problem>, BTreeMap<String, Place>) {
        (self.problems, self.places)
    }

    /// Reads the value of `name`, which is at `place`.
    pub fn within<T>(&mut self, name: &str, place: &Place, read: impl FnOnce(&mut Self) -> T) -> T {
        let path = join(&self.path, name);
        self.at(path, place, read)
    }

    /// Reads the element `index` of a list, which is at `place`.
    pub fn element<T>(&mut self, index: usize, place: &Place, read: impl FnOnce(&mut Self) -> T) -> T {
        let path = format!("{}[{index}]", self.path);
        self.at(path, place, read)
    }

    fn at<T>(&mut self, path: String, place: &Place, read: impl FnOnce(&mut Self) -> T) -> T {
        self.places.insert(path.clone(), place.clone());
        let path = std::mem::replace(&mut self.path, path);
        let section = std::mem::replace(&mut self.section, place.clone());
        let value = read(self);
        self.path = path;
        self.section = section;
        value
    }

    /// The value that is being read is wrong.
    pub fn report(&mut self, place: &Place, reason: impl Into<String>) {
        self.problems.push(Problem {
            place: place.clone(),
            key: self.path.clone(),
            reason: reason.into(),
        });
    }

    /// The section that is being read lacks `name`.
    pub fn report_missing(&mut self, name: &str) {
        self.problems.push(Problem {
            place: self.section.clone(),
            key: join(&self.path, name),
            reason: "is missing".to_owned(),
        });
    }

    /// The section that is being read has no key `name`, only `known` ones.
    pub fn report_unknown(&mut self, name: &str, place: &Place, known: impl Iterator<Item = &'static str>) {
        let known: Vec<_> = known.collect();
        let elsewhere = self.everywhere.iter().find(|(_, key)| *key == name);
        let reason = match (nearest(name, known.iter().copied()), elsewhere) {
            (Some(near), _) => format!("unknown key, did you mean \"{near}\"?"),
            (None, Some((section, _))) => format!("unknown key, did you mean \"{name}\" in {section}?"),
            (None, None) => format!("unknown key, known here: {}", known.join(", ")),
        };
        self.problems.push(Problem {
            place: place.clone(),
            key: join(&self.path, name),
            reason,
        });
    }

    /// The value that is being read is none of `known`.
    pub fn report_choice(&mut self, place: &Place, text: &str, known: &[&'static str]) {
        let all = known
            .iter()
            .map(|word| format!("\"{word}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let mut reason = format!("{text:?} is none of {all}");
        if let Some(near) = nearest(text, known.iter().copied()) {
            reason.push_str(&format!(", did you mean \"{near}\"?"));
        }
        self.report(place, reason);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The one of `known` that somebody who wrote `name` may have meant, if any is near enough.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    known
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&name, &candidate.replace('-', "_")),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(name.chars().count()) / 3 + 1)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_and_a_far_one_is_not() {
        let known = ["listen", "admin_listen", "grace_period"];
        assert_eq!(nearest("lsiten", known.into_iter()), Some("listen"));
        assert_eq!(nearest("grace-period", known.into_iter()), Some("grace_period"));
        assert_eq!(nearest("GRACE", known.into_iter()), None);
        assert_eq!(nearest("colour", known.into_iter()), None);
    }
}
