//! The environment as a source of settings: `BITS_GATEWAY__SECTION__KEY`, `BITS_GATEWAY__ROUTES__0__STORE`.
//!
//! Two underscores part the names, so that what Kubernetes puts there for a service called bits-gateway
//! (`BITS_GATEWAY_SERVICE_HOST`) is never taken for one.

use std::collections::BTreeMap;

use crate::units::knob::{Entry, Found, Kind, Place, Problem, Table, Value, nearest};

/// What the names of all variables begin with.
pub const PREFIX: &str = "BITS_GATEWAY__";

/// The variable that names the file, for who has no command line to write it on.
pub const FILE: &str = "BITS_GATEWAY_CONFIG";

/// Puts what the environment says over what the file says, and returns what can't be placed.
pub(super) fn apply(root: &mut Table, kind: &Kind, variables: &BTreeMap<String, String>) -> Vec<Problem> {
    let mut ours: Vec<_> = variables
        .iter()
        .filter_map(|(name, value)| Some((name, segments(name.strip_prefix(PREFIX)?), value)))
        .collect();
    // Element 2 of a list has to come before element 10.
    ours.sort_by_cached_key(|(_, segments, _)| {
        segments
            .iter()
            .map(|segment| (segment.parse::<usize>().ok(), segment.clone()))
            .collect::<Vec<_>>()
    });
    let mut problems = Vec::new();
    for (name, segments, value) in ours {
        let variable = Variable { name, value };
        let mut found = Some(variable.found(Value::Table(root.clone())));
        let put = if value.contains(char::REPLACEMENT_CHARACTER) {
            Err("is not UTF-8 text".to_owned())
        } else {
            variable.put(kind, &mut found, &segments, &mut String::new())
        };
        match (put, found) {
            (
                Ok(()),
                Some(Found {
                    value: Value::Table(table),
                    ..
                }),
            ) => *root = table,
            (Ok(()), _) => {}
            (Err(reason), _) => problems.push(Problem {
                place: Place::Variable(name.clone()),
                key: String::new(),
                reason,
            }),
        }
    }
    problems
}

/// The name of the variable for the key at `path`, each element of which is a key or an index.
pub(super) fn variable_of<'p>(path: impl IntoIterator<Item = &'p str>) -> String {
    let names: Vec<_> = path.into_iter().map(str::to_ascii_uppercase).collect();
    format!("{PREFIX}{}", names.join("__"))
}

fn segments(name: &str) -> Vec<String> {
    name.split("__").map(str::to_ascii_lowercase).collect()
}

struct Variable<'a> {
    name: &'a str,
    value: &'a str,
}

impl Variable<'_> {
    fn found(&self, value: Value) -> Found {
        Found {
            value,
            place: Place::Variable(self.name.to_owned()),
        }
    }

    /// Puts the value where `segments` lead from `slot`, which holds something of `kind` or nothing.
    fn put(&self, kind: &Kind, slot: &mut Option<Found>, segments: &[String], upto: &mut String) -> Result<(), String> {
        let Some((segment, rest)) = segments.split_first() else {
            return self.put_here(kind, slot);
        };
        match kind {
            Kind::Table(keys) => {
                let Some(key) = keys.iter().find(|key| key.name == segment) else {
                    return Err(self.unknown(kind, segment, rest, upto));
                };
                self.put_below(&key.kind, slot, segment, rest, upto)
            }
            Kind::Map(kind) if !segment.is_empty() => self.put_below(kind, slot, segment, rest, upto),
            Kind::Secret if rest.is_empty() && (segment == "file" || segment == "env") => {
                *slot = None;
                self.put_below(&Kind::Text, slot, segment, rest, upto)
            }
            Kind::List(kind) => self.put_into_list(kind, slot, segment, rest, upto),
            Kind::Unavailable => self.put_here(kind, slot),
            _ => Err(format!(
                "unknown key, did you mean {PREFIX}{}?",
                upto.trim_end_matches('_')
            )),
        }
    }

    fn put_here(&self, kind: &Kind, slot: &mut Option<Found>) -> Result<(), String> {
        match kind {
            Kind::Table(_) | Kind::Map(_) => Err("names a section: name one of its keys".to_owned()),
            Kind::List(of) if matches!(**of, Kind::Table(_)) => Err(format!(
                "names a list of sections: name a key of one of them, {}__0__…",
                self.name
            )),
            _ => {
                *slot = Some(self.found(Value::Word(self.value.to_owned())));
                Ok(())
            }
        }
    }

    fn put_below(
        &self,
        kind: &Kind,
        slot: &mut Option<Found>,
        segment: &str,
        rest: &[String],
        upto: &mut String,
    ) -> Result<(), String> {
        let section = slot.get_or_insert_with(|| self.found(Value::Table(Table::new())));
        let Value::Table(table) = &mut section.value else {
            // The file has something else where a section belongs: reading it will say so.
            return Ok(());
        };
        upto.push_str(&format!("{}__", segment.to_ascii_uppercase()));
        let (key, mut found) = match table.remove(segment) {
            Some(Entry { key, found }) => (key, Some(found)),
            None => (Place::Variable(self.name.to_owned()), None),
        };
        let put = self.put(kind, &mut found, rest, upto);
        if let Some(found) = found {
            table.insert(segment.to_owned(), Entry { key, found });
        }
        put
    }

    fn put_into_list(
        &self,
        kind: &Kind,
        slot: &mut Option<Found>,
        segment: &str,
        rest: &[String],
        upto: &mut String,
    ) -> Result<(), String> {
        let Ok(index) = segment.parse::<usize>() else {
            return Err(format!(
                "expected the number of an element after {PREFIX}{}",
                upto.trim_end_matches('_')
            ));
        };
        let list = slot.get_or_insert_with(|| self.found(Value::List(Vec::new())));
        let elements = match &mut list.value {
            Value::List(elements) => elements,
            Value::Word(_) => return Err(format!("the whole list is given by {}", list.place)),
            _ => return Ok(()),
        };
        if index > elements.len() {
            return Err(format!("there is no element {} before it", index - 1));
        }
        upto.push_str(&format!("{index}__"));
        let mut found = (index < elements.len()).then(|| elements.remove(index));
        let put = self.put(kind, &mut found, rest, upto);
        if let Some(found) = found {
            elements.insert(index, found);
        }
        put
    }

    fn unknown(&self, kind: &Kind, segment: &str, rest: &[String], upto: &str) -> String {
        let Kind::Table(keys) = kind else {
            return "unknown key".to_owned();
        };
        let root = super::reference::variables();
        let tail: String = rest
            .iter()
            .map(|segment| format!("__{}", segment.to_ascii_uppercase()))
            .collect();
        let last = rest.last().map_or(segment, String::as_str).to_ascii_uppercase();
        let near = nearest(segment, keys.iter().map(|key| key.name))
            .map(|near| format!("{PREFIX}{upto}{}{tail}", near.to_ascii_uppercase()))
            .or_else(|| {
                root.into_iter()
                    .find(|variable| variable.rsplit("__").next() == Some(&last))
            });
        match near {
            Some(near) => format!("unknown key, did you mean {near}?"),
            None => {
                let known: Vec<_> = keys
                    .iter()
                    .map(|key| format!("{PREFIX}{upto}{}", key.name.to_ascii_uppercase()))
                    .collect();
                format!("unknown key, known here: {}", known.join(", "))
            }
        }
    }
}
