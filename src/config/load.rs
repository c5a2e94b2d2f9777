//! File, environment and flags into settings, or into sentences about what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Settings, env, validate};
use crate::units::knob::{Entry, Found, Knob, Place, Problem, Reading, Table, Value, read_section};

/// What settings are made of, in rising order of precedence.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// What the command line says.
    pub flags: Flags,
}

/// What the command line says about the settings.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--listen`, as often as it was given.
    pub listen: Vec<SocketAddr>,
    /// `--admin-listen`.
    pub admin_listen: Option<SocketAddr>,
    /// `--store`.
    pub store: Option<String>,
}

/// Settings that hold together.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Where each key was given, by its name with sections (`routes[0].store`); keys that nobody gave are missing.
    pub places: BTreeMap<String, Place>,
    /// What is allowed, and probably not meant.
    pub warnings: Vec<Problem>,
}

/// Everything that is wrong with a configuration, one sentence a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The environment of this process. The only place that reads it.
///
/// What is not UTF-8 in a value is replaced; [`load`] refuses such values where it uses them.
pub fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect()
}

/// Makes settings of their sources: default < file < environment < flag.
///
/// # Errors
/// Everything that is wrong, in the order of the file. Nothing was opened but the file and the files of secrets.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let (mut root, place) = match &sources.file {
        Some(file) => read_file(file).map_err(|problem| Problems(vec![problem]))?,
        None => (Table::new(), Place::Default),
    };
    // The default of a list gives way as a whole to the file's, and key by key to the environment and to flags.
    root.entry("routes".to_owned()).or_insert_with(default_routes);
    let mut problems = env::apply(&mut root, &Settings::kind(), &sources.variables);
    apply_flags(&mut root, &sources.flags, &mut problems);
    let root = Found {
        value: Value::Table(root),
        place: place.clone(),
    };
    let mut reading = Reading::new(&sources.variables, place, super::reference::keys_by_section());
    let settings = read_section::<Settings>(&root, &mut reading);
    let (found_wrong, places) = reading.finish();
    problems.extend(found_wrong);
    if let Some(mut settings) = settings
        && problems.is_empty()
    {
        let (contradictions, warnings) = validate::settle(&mut settings, &places);
        if contradictions.is_empty() {
            return Ok(Loaded {
                settings,
                places,
                warnings,
            });
        }
        problems = contradictions;
    }
    problems.sort();
    problems.dedup();
    Err(Problems(problems))
}

/// The one route of a configuration that names none.
fn default_routes() -> Entry {
    let given = |value| Entry {
        key: Place::Default,
        found: Found {
            value,
            place: Place::Default,
        },
    };
    let route = BTreeMap::from([
        ("path".to_owned(), given(Value::Text("/".to_owned()))),
        ("store".to_owned(), given(Value::Text("./bits-data".to_owned()))),
        ("download".to_owned(), given(Value::Flag(true))),
    ]);
    given(Value::List(vec![given(Value::Table(route)).found]))
}

fn apply_flags(root: &mut Table, flags: &Flags, problems: &mut Vec<Problem>) {
    let mut set = |section: &str, key: &str, flag: &'static str, value: String| {
        let place = Place::Flag(flag);
        let found = Found {
            value: Value::Word(value),
            place: place.clone(),
        };
        let entry = Entry {
            key: place.clone(),
            found,
        };
        let section = root.entry(section.to_owned()).or_insert_with(|| Entry {
            key: place.clone(),
            found: Found {
                value: Value::Table(Table::new()),
                place: place.clone(),
            },
        });
        match &mut section.found.value {
            Value::Table(table) => {
                table.insert(key.to_owned(), entry);
            }
            Value::List(routes) => match routes.as_mut_slice() {
                [
                    Found {
                        value: Value::Table(route),
                        ..
                    },
                ] => {
                    route.insert(key.to_owned(), entry);
                }
                _ => problems.push(Problem {
                    place,
                    key: String::new(),
                    reason: format!(
                        "there are {} routes: say which one with BITS_GATEWAY__ROUTES__0__STORE or in the file",
                        routes.len()
                    ),
                }),
            },
            // Reading the section will say that it is none.
            _ => {}
        }
    };
    if !flags.listen.is_empty() {
        let list = flags
            .listen
            .iter()
            .map(SocketAddr::to_string)
            .collect::<Vec<_>>()
            .join(",");
        set("server", "listen", "--listen", list);
    }
    if let Some(address) = flags.admin_listen {
        set("server", "admin_listen", "--admin-listen", address.to_string());
    }
    if let Some(url) = &flags.store {
        set("routes", "store", "--store", url.clone());
    }
}

/// Reads the file as far as TOML goes. Also says where its sections begin: at its top.
fn read_file(file: &Path) -> Result<(Table, Place), Problem> {
    let name: Arc<str> = file.display().to_string().into();
    let unreadable = |reason: String| Problem {
        place: Place::Whole(Arc::clone(&name)),
        key: String::new(),
        reason,
    };
    let bytes = std::fs::read(file).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let valid = String::from_utf8_lossy(valid);
        Problem {
            place: Lines::new(Arc::clone(&name), &valid).place(valid.len()),
            key: String::new(),
            reason: "is not UTF-8 text".to_owned(),
        }
    })?;
    let lines = Lines::new(Arc::clone(&name), text);
    let document = DeTable::parse(text).map_err(|error| Problem {
        place: lines.place(error.span().map_or(0, |span| span.start)),
        key: String::new(),
        reason: format!("is not TOML: {}", error.message().replace('\n', ", ")),
    })?;
    Ok((lines.table(document.get_ref()), Place::Whole(name)))
}

/// Turns byte offsets of a file into lines and columns.
struct Lines<'t> {
    file: Arc<str>,
    text: &'t str,
}

impl<'t> Lines<'t> {
    const fn new(file: Arc<str>, text: &'t str) -> Self {
        Self { file, text }
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place::File {
            file: Arc::clone(&self.file),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].trim_start_matches('\u{feff}').chars().count() + 1,
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| -> (String, Entry) {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            let entry = Entry {
                key: self.place(key.span().start),
                found: self.found(value),
            };
            (name.to_string(), entry)
        };
        table.iter().map(entry).collect()
    }

    fn found(&self, value: &Spanned<DeValue<'_>>) -> Found {
        let place = self.place(value.span().start);
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Foreign("a number beyond 64 bits"), Value::Whole),
            DeValue::Float(_) => Value::Foreign("a number with a point"),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Datetime(_) => Value::Foreign("a date"),
            DeValue::Array(elements) => Value::List(elements.iter().map(|element| self.found(element)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Found { value, place }
    }
}
