//! What is in force, as a file.

use std::collections::BTreeMap;

use super::Settings;
use crate::units::knob::{Place, Section, Shown};

/// The settings as a file, secrets redacted. With `places`, each line says where its value was given.
pub fn as_toml(settings: &Settings, places: Option<&BTreeMap<String, Place>>) -> String {
    let mut page = Page {
        text: String::new(),
        places,
    };
    for (name, shown) in settings.show_keys() {
        match shown {
            Shown::Table(keys) => page.section(&format!("[{name}]"), name, keys),
            Shown::Tables(tables) => {
                for (index, keys) in tables.into_iter().enumerate() {
                    page.section(&format!("[[{name}]]"), &format!("{name}[{index}]"), keys);
                }
            }
            Shown::Absent | Shown::Text(_) | Shown::Map(_) => {}
        }
    }
    page.text
}

struct Page<'p> {
    text: String,
    places: Option<&'p BTreeMap<String, Place>>,
}

impl Page<'_> {
    fn section(&mut self, header: &str, path: &str, keys: Vec<(&'static str, Shown)>) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&format!("{header}\n"));
        for (name, shown) in keys {
            let value = match shown {
                Shown::Text(value) => value,
                Shown::Map(pairs) if !pairs.is_empty() => {
                    let pairs: Vec<_> = pairs
                        .iter()
                        .map(|(name, value)| format!("{} = {value}", in_key(name)))
                        .collect();
                    format!("{{ {} }}", pairs.join(", "))
                }
                Shown::Absent | Shown::Map(_) | Shown::Table(_) | Shown::Tables(_) => continue,
            };
            self.text.push_str(&format!("{name} = {value}"));
            if let Some(places) = self.places {
                let place = places.get(&format!("{path}.{name}")).unwrap_or(&Place::Default);
                self.text.push_str(&format!("  # {place}"));
            }
            self.text.push('\n');
        }
    }
}

/// A key as TOML, in quotes where it has to be.
fn in_key(name: &str) -> String {
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}
