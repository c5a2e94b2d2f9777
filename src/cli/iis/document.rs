//! Files of IIS as trees: their encodings, and where in them something stands.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use roxmltree::{Document, Node};

/// Where something stands in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct At {
    file: Rc<str>,
    line: u32,
    column: u32,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl At {
    /// The line, from 1.
    pub(super) const fn line(&self) -> u32 {
        self.line
    }

    /// An error here.
    pub(super) fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong::There {
            at: self.clone(),
            what: what.into(),
        }
    }
}

/// Why files can't be imported.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    /// The file can't be read.
    #[error("{file}: {error}")]
    Unreadable {
        /// Which one.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not in an encoding that is read here.
    #[error("{file}: {what}")]
    Encoding {
        /// Which one.
        file: String,
        /// What is wrong with its bytes.
        what: &'static str,
    },
    /// Something in it.
    #[error("{at}: {what}")]
    There {
        /// Where.
        at: At,
        /// What.
        what: String,
    },
    /// The files together.
    #[error("{0}")]
    Together(String),
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<(Rc<str>, String), Wrong> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| Wrong::Unreadable {
        file: file.clone(),
        error,
    })?;
    let text = decoded(&bytes).map_err(|what| Wrong::Encoding {
        file: file.clone(),
        what,
    })?;
    Ok((file.into(), text))
}

/// UTF-8 or UTF-16, told apart by the byte order mark or by the zeros of the first character, which is `<` (XML 1.0, appendix F).
fn decoded(bytes: &[u8]) -> Result<String, &'static str> {
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf_8(rest),
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        [b'<', 0, ..] => utf_16(bytes, u16::from_le_bytes),
        [0, b'<', ..] => utf_16(bytes, u16::from_be_bytes),
        _ => utf_8(bytes),
    }
}

fn utf_8(bytes: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(bytes).map(ToOwned::to_owned);
    text.map_err(|_| "is neither UTF-8 nor UTF-16: save it as one of these")
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, &'static str> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("is UTF-16 that ends within a character");
    }
    let units = pairs.iter().map(|pair| unit(*pair));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.map_err(|_| "is UTF-16 with half a character in it")
}

/// A file as a tree.
pub(super) struct Tree<'t> {
    file: Rc<str>,
    document: Document<'t>,
}

impl<'t> Tree<'t> {
    /// Parses the text of a file.
    pub(super) fn parse(file: &Rc<str>, text: &'t str) -> Result<Self, Wrong> {
        let document = Document::parse(text).map_err(|error| {
            let position = error.pos();
            let at = At {
                file: Rc::clone(file),
                line: position.row,
                column: position.col,
            };
            // The library says the position once more, at the end.
            let told = error.to_string();
            let what = told.rsplit_once(" at ").map_or(told.as_str(), |(what, _)| what);
            at.wrong(format!("this is not XML: {what}"))
        })?;
        Ok(Self {
            file: Rc::clone(file),
            document,
        })
    }

    /// Its outermost element.
    pub(super) fn root(&self) -> Node<'_, 't> {
        self.document.root_element()
    }

    /// Where `node` begins.
    pub(super) fn at(&self, node: Node<'_, '_>) -> At {
        let position = self.document.text_pos_at(node.range().start);
        At {
            file: Rc::clone(&self.file),
            line: position.row,
            column: position.col,
        }
    }

    /// An attribute that has to be there.
    pub(super) fn required<'n>(&self, node: Node<'n, 't>, name: &str) -> Result<&'n str, Wrong> {
        node.attribute(name).ok_or_else(|| {
            let element = node.tag_name().name();
            self.at(node).wrong(format!("<{element}> has no attribute \"{name}\""))
        })
    }

    /// The same, as a number.
    pub(super) fn number(&self, node: Node<'_, 't>, name: &str) -> Result<u32, Wrong> {
        let text = self.required(node, name)?;
        text.parse()
            .map_err(|_| self.at(node).wrong(format!("{name}={text:?} is not a number")))
    }
}

/// The elements below `node` that are called `name`.
pub(super) fn children<'n, 't>(node: Node<'n, 't>, name: &str) -> impl Iterator<Item = Node<'n, 't>> {
    node.children()
        .filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The elements at the end of `path` below `node`.
pub(super) fn at_path<'n, 't>(node: Node<'n, 't>, path: &[&str]) -> Vec<Node<'n, 't>> {
    path.iter().fold(vec![node], |nodes, name| {
        nodes.into_iter().flat_map(|node| children(node, name)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_in_which_windows_writes_xml_is_read() {
        let text = "<?xml version=\"1.0\"?><a b=\"Zürich €\"/>";
        let wide = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
        for bytes in [
            text.as_bytes().to_vec(),
            [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(),
            [&[0xff, 0xfe], little.as_slice()].concat(),
            [&[0xfe, 0xff], big.as_slice()].concat(),
            little,
            big,
        ] {
            assert_eq!(decoded(&bytes).as_deref(), Ok(text));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert!(decoded(b"<a b=\"Z\xfcrich\"/>").unwrap_err().contains("neither UTF-8"));
        assert!(decoded(&[0xff, 0xfe, b'<']).unwrap_err().contains("ends within"));
        assert!(
            decoded(&[0xff, 0xfe, 0, 0xd8, b'<', 0])
                .unwrap_err()
                .contains("half a character")
        );
    }

    #[test]
    fn what_is_no_xml_is_refused_where_it_is_wrong() {
        let file: Rc<str> = "a.config".into();
        let wrong = |text| Tree::parse(&file, text).err().map(|wrong| wrong.to_string());
        assert_eq!(wrong("<a/>"), None);
        let told = wrong("<a>\n  <b></c>\n</a>").unwrap();
        assert!(told.starts_with("a.config:2:") && told.contains("not XML"), "{told}");
        // Entities of a document type can make a small file a huge one.
        let told = wrong("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>").unwrap();
        assert!(told.starts_with("a.config:1:1: this is not XML"), "{told}");
        assert!(wrong("").is_some());
    }
}
