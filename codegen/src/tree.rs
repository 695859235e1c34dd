//! Names with dots as a tree, and how it is written as a TypeScript type.

use crate::typescript::property;
use std::collections::BTreeMap;

/// What stands under a name, and under the names that begin with it.
#[derive(Debug)]
pub(crate) struct Tree<T> {
    here: Option<T>,
    children: BTreeMap<String, Tree<T>>,
}

/// A tree as text.
#[derive(Debug)]
pub(crate) struct Printed<'a, T> {
    pub(crate) text: String,
    /// Where the names of the values stand, and what their types have marked, in the order of the text.
    pub(crate) places: Vec<Printing<'a, T>>,
}

/// The type of a value, as text of one line.
#[derive(Debug, Default)]
pub(crate) struct TypeText {
    pub(crate) text: String,
    /// Places in it that stand for the value too, in bytes, in their order.
    pub(crate) marks: Vec<usize>,
}

/// A name, or a mark, as it was printed.
#[derive(Debug)]
pub(crate) struct Printing<'a, T> {
    pub(crate) value: &'a T,
    /// From 0.
    pub(crate) line: usize,
    /// From 0, in UTF-16 units.
    pub(crate) column: usize,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Tree { here: None, children: BTreeMap::new() }
    }
}

impl<T> Tree<T> {
    /// Puts a value in, in place of the one of its name.
    pub(crate) fn insert<'n>(&mut self, name: impl IntoIterator<Item = &'n str>, value: T) {
        let mut node = self;
        for segment in name {
            node = node.children.entry(segment.to_owned()).or_default();
        }
        node.here = Some(value);
    }

    /// Writes it as the body of an object type, behind text of so many lines. `ty` writes a value's type, and `doc` what
    /// is said above it.
    pub(crate) fn print(
        &self,
        first_line: usize,
        ty: &dyn Fn(&T) -> TypeText,
        doc: &dyn Fn(&T) -> Option<String>,
    ) -> Printed<'_, T> {
        if self.children.is_empty() {
            return Printed { text: "{}".to_owned(), places: Vec::new() };
        }
        let mut printed = Printed { text: "{\n".to_owned(), places: Vec::new() };
        let mut line = first_line + 1;
        self.print_children(1, &mut line, ty, doc, &mut printed);
        printed.text.push('}');
        printed
    }

    fn print_children<'a>(
        &'a self,
        depth: usize,
        line: &mut usize,
        ty: &dyn Fn(&T) -> TypeText,
        doc: &dyn Fn(&T) -> Option<String>,
        printed: &mut Printed<'a, T>,
    ) {
        let indent = "  ".repeat(depth);
        for (name, child) in &self.children {
            if let Some(doc) = child.here.as_ref().and_then(doc) {
                printed.text.push_str(&format!("{indent}/** {doc} */\n"));
                *line += 1;
            }
            let key = property(name);
            printed.text.push_str(&format!("{indent}readonly {key}: "));
            if let Some(value) = &child.here {
                let name_at = indent.len() + "readonly ".len();
                let type_at = name_at + utf16_len(&key) + ": ".len();
                let TypeText { text, marks } = ty(value);
                let marks = marks.iter().map(|&mark| type_at + utf16_len(&text[..mark]));
                let places = std::iter::once(name_at).chain(marks);
                let line = *line;
                printed.places.extend(places.map(|column| Printing { value, line, column }));
                printed.text.push_str(&text);
                if !child.children.is_empty() {
                    printed.text.push_str(" & ");
                }
            }
            if !child.children.is_empty() {
                printed.text.push_str("{\n");
                *line += 1;
                child.print_children(depth + 1, line, ty, doc, printed);
                printed.text.push_str(&format!("{indent}}}"));
            }
            printed.text.push_str(";\n");
            *line += 1;
        }
    }
}

fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_where_the_names_are() {
        let mut tree = Tree::default();
        for name in ["b", "b.c", "a.größe", "a.d.e"] {
            tree.insert(name.split('.'), name);
        }
        let ty = |_: &&str| TypeText { text: "X<'ß', mark>".to_owned(), marks: vec![8] };
        let printed = tree.print(0, &ty, &|name| (*name == "b.c").then(|| "Doc.".to_owned()));
        let lines: Vec<&str> = printed.text.lines().collect();
        let names: Vec<(&str, String)> = printed
            .places
            .iter()
            .map(|place| {
                let line = lines[place.line].encode_utf16().skip(place.column).collect::<Vec<_>>();
                (*place.value, String::from_utf16(&line[..5]).expect("whole characters"))
            })
            .collect();
        let expect = [
            ("a.d.e", "e: X<"),
            ("a.d.e", "mark>"),
            ("a.größe", "'größ"),
            ("a.größe", "mark>"),
            ("b", "b: X<"),
            ("b", "mark>"),
            ("b.c", "c: X<"),
            ("b.c", "mark>"),
        ];
        assert_eq!(names, expect.map(|(name, text)| (name, text.to_owned())));
    }
}
