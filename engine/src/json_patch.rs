//! What changed between two JSON values, as the steps of an RFC 6902 patch.
//!
//! Values are texts, and are the same where their texts are. Elements of arrays that are objects with distinct strings for `_id`
//! are known by it, so that a page of documents changes by the documents that come, go and change. Whoever applies the patch gets
//! the members of objects in the order that they have.

use crate::diff::diff;
use crate::result_row::ResultRow;
use crate::update::DiffOp;
use convoy_types::{PgType, json_elements, json_members, write_json};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// Deeper down a value is replaced as a whole.
const DEPTH_MAX: usize = 32;

/// Steps of one array beyond which it is replaced: each is looked for from the array's front.
const STEPS_MAX: usize = 500;

/// Bytes that are looked through for one patch; each level of a value costs its own length. It is the engine's time.
const WORK_MAX: usize = 16 << 20;

/// Returns the steps from one value to another without the brackets around them: one that replaces the whole, where no others are
/// shorter.
pub(crate) fn json_patch(old: &str, new: &str) -> Box<str> {
    let (out, path) = (String::new(), String::new());
    let mut steps = Steps { out, path, bytes_max: new.len(), work_left: WORK_MAX };
    match steps.differ(old, new, 0) {
        Ok(()) if !steps.out.is_empty() => steps.out.into(),
        _ => format!(r#"{{"op":"replace","path":"","value":{new}}}"#).into(),
    }
}

/// The whole is shorter, or finding out would take too long.
struct TooLong;

struct Steps {
    out: String,
    /// Where we are, as a JSON pointer without the quotes, in the form that it has within a JSON string.
    path: String,
    bytes_max: usize,
    work_left: usize,
}

impl Steps {
    fn differ(&mut self, old: &str, new: &str, depth: usize) -> Result<(), TooLong> {
        if old == new {
            return Ok(());
        }
        self.work_left = self.work_left.checked_sub(old.len() + new.len()).ok_or(TooLong)?;
        if depth < DEPTH_MAX {
            if let (Ok(Some(old)), Ok(Some(new))) = (json_members(old), json_members(new))
                && let Some(known) = known_in_order(&old, &new)
            {
                for (name, _) in &old {
                    if !known.contains_key(&**name) {
                        self.within(name, |steps| steps.step("remove", None))?;
                    }
                }
                for (name, value) in &new {
                    self.within(name, |steps| match known.get(&**name) {
                        Some(before) => steps.differ(before, value, depth + 1),
                        None => steps.step("add", Some(value)),
                    })?;
                }
                return Ok(());
            }
            if let (Ok(Some(old)), Ok(Some(new))) = (json_elements(old), json_elements(new)) {
                return match (documents(&old), documents(&new)) {
                    (Some(old), Some(new)) => self.differ_by_id(&old, &new, depth),
                    _ => self.differ_by_place(&old, &new, depth),
                };
            }
        }
        self.step("replace", Some(new))
    }

    fn differ_by_id(
        &mut self,
        old: &[ResultRow],
        new: &[ResultRow],
        depth: usize,
    ) -> Result<(), TooLong> {
        let ops = diff(old, new);
        if ops.len() > STEPS_MAX {
            return Err(TooLong);
        }
        // Who stands where, after each step.
        let mut rows: Vec<&ResultRow> = old.iter().collect();
        let place = |rows: &[&ResultRow], key: &str| rows.iter().position(|row| row.key() == key);
        for op in &ops {
            match op {
                DiffOp::Remove { key } => {
                    let Some(at) = place(&rows, key) else { continue };
                    rows.remove(at);
                    self.at(at, |steps| steps.step("remove", None))?;
                }
                DiffOp::Insert { row, at } => {
                    rows.insert(*at, row);
                    self.at(*at, |steps| steps.step("add", row.cell(0)))?;
                }
                DiffOp::Update { key, set } => {
                    let Some(at) = place(&rows, key) else { continue };
                    let before = rows[at].cell(0).unwrap_or_default();
                    for (_, value) in set {
                        self.at(at, |steps| steps.differ(before, value, depth + 1))?;
                    }
                }
                DiffOp::Move { key, at } => {
                    let Some(from) = place(&rows, key) else { continue };
                    let row = rows.remove(from);
                    rows.insert(*at, row);
                    let from = format!(r#""from":"{}/{from}","#, self.path);
                    self.at(*at, |steps| steps.step_with("move", &from, None))?;
                }
                DiffOp::Patch { .. } => {}
            }
        }
        Ok(())
    }

    fn differ_by_place(&mut self, old: &[&str], new: &[&str], depth: usize) -> Result<(), TooLong> {
        let same = |(old, new): &(&&str, &&str)| old == new;
        let front = old.iter().zip(new).take_while(same).count();
        let (old, new) = (&old[front..], &new[front..]);
        let back = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
        let (old, new) = (&old[..old.len() - back], &new[..new.len() - back]);
        let both = old.len().min(new.len());
        for at in 0..both {
            self.at(front + at, |steps| steps.differ(old[at], new[at], depth + 1))?;
        }
        for _ in both..old.len() {
            self.at(front + both, |steps| steps.step("remove", None))?;
        }
        for (at, value) in new.iter().enumerate().skip(both) {
            self.at(front + at, |steps| steps.step("add", Some(value)))?;
        }
        Ok(())
    }

    fn step(&mut self, op: &str, value: Option<&str>) -> Result<(), TooLong> {
        self.step_with(op, "", value)
    }

    fn step_with(&mut self, op: &str, from: &str, value: Option<&str>) -> Result<(), TooLong> {
        if !self.out.is_empty() {
            self.out.push(',');
        }
        // Writing to a String can't fail.
        let _ = write!(self.out, r#"{{"op":"{op}",{from}"path":"{}""#, self.path);
        if let Some(value) = value {
            self.out.push_str(r#","value":"#);
            self.out.push_str(value);
        }
        self.out.push('}');
        if self.out.len() > self.bytes_max { Err(TooLong) } else { Ok(()) }
    }

    fn at<T>(&mut self, index: usize, what: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.path.len();
        let _ = write!(self.path, "/{index}");
        let value = what(self);
        self.path.truncate(len);
        value
    }

    fn within<T>(&mut self, name: &str, what: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.path.len();
        self.path.push('/');
        let mut quoted = String::new();
        // Every text has a JSON form.
        let name = name.replace('~', "~0").replace('/', "~1");
        let _ = write_json(&PgType::Text, name.as_bytes(), &mut quoted);
        self.path.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
        let value = what(self);
        self.path.truncate(len);
        value
    }
}

/// Returns the members of the old object whose names the new one has too, where taking the others away and adding the new ones
/// behind gives the new order. None also where a name stands twice.
fn known_in_order<'a>(
    old: &'a [(Cow<'_, str>, &'a str)],
    new: &[(Cow<'_, str>, &str)],
) -> Option<HashMap<&'a str, &'a str>> {
    let names: HashSet<&str> = new.iter().map(|(name, _)| &**name).collect();
    let known = || old.iter().filter(|(name, _)| names.contains(&**name));
    let values: HashMap<&str, &str> = known().map(|(name, value)| (&**name, *value)).collect();
    let is_in_order = known().zip(new).all(|((known, _), (name, _))| known == name);
    (is_in_order && names.len() == new.len() && values.len() == known().count()).then_some(values)
}

/// Returns the elements as rows of one cell, by their `_id`s; none where they are no objects that have distinct ones.
fn documents(elements: &[&str]) -> Option<Vec<ResultRow>> {
    let mut keys = HashSet::new();
    let mut document = |element: &&str| {
        let members = json_members(element).ok()??;
        let (_, id) = members.iter().find(|(name, _)| *name == "_id")?;
        (id.starts_with('"') && keys.insert((*id).to_owned()))
            .then(|| ResultRow::new(id, [*element]))
    };
    elements.iter().map(&mut document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// What a client has after the patch, by somebody else's code.
    fn applied(old: &str, steps: &str) -> Value {
        let mut value: Value = serde_json::from_str(old).expect("JSON");
        let patch: ::json_patch::Patch =
            serde_json::from_str(&format!("[{steps}]")).expect("a patch");
        ::json_patch::patch(&mut value, &patch).expect("it fits");
        value
    }

    fn check(old: &str, new: &str, expected: &str) {
        let steps = json_patch(old, new);
        assert_eq!(&*steps, expected);
        assert_eq!(applied(old, &steps), serde_json::from_str::<Value>(new).expect("JSON"));
    }

    #[test]
    fn what_changed_is_named() {
        let text = "some words that are long enough for a step to be shorter than they are";
        check(
            &format!(r#"{{"a/b":1,"text":"{text}"}}"#),
            &format!(r#"{{"a/b":2,"text":"{text}"}}"#),
            r#"{"op":"replace","path":"/a~1b","value":2}"#,
        );
        check(
            &format!(r#"{{"a":1,"text":"{text}"}}"#),
            &format!(r#"{{"text":"{text}","\"":[]}}"#),
            r#"{"op":"remove","path":"/a"},{"op":"add","path":"/\"","value":[]}"#,
        );
        check(
            &format!(r#"["{text}","{text}",1]"#),
            &format!(r#"["{text}",0,"{text}",1]"#),
            r#"{"op":"add","path":"/1","value":0}"#,
        );
        check("[1,2]", "[1,3]", r#"{"op":"replace","path":"","value":[1,3]}"#);
    }

    #[test]
    fn a_page_of_documents_changes_by_its_documents() {
        let document = |id: &str, n: u32| {
            format!(
                r#"{{"_id":"t:{id}","n":{n},"text":"what somebody said, at some length, of {id}"}}"#
            )
        };
        let page = |documents: &[String]| {
            format!(r#"{{"page":[{}],"isDone":false}}"#, documents.join(","))
        };
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| document(id, 0));
        check(
            &page(&[b.clone(), c.clone(), d.clone()]),
            &page(&[a.clone(), b.clone(), document("c", 7)]),
            &format!(
                r#"{{"op":"remove","path":"/page/2"}},{{"op":"add","path":"/page/0","value":{a}}},{{"op":"replace","path":"/page/2/n","value":7}}"#
            ),
        );
        check(
            &page(&[a.clone(), b.clone(), c.clone()]),
            &page(&[c, a, b]),
            r#"{"op":"move","from":"/page/2","path":"/page/0"}"#,
        );
    }

    #[test]
    fn what_would_take_too_long_is_replaced() {
        let nested = |n: u32| {
            let text = "x".repeat(1 << 20);
            (0..30).fold(format!("{n},\"{text}\""), |inner, _| format!("[{inner}]"))
        };
        assert!(
            json_patch(&nested(1), &nested(2)).starts_with(r#"{"op":"replace","path":"","value""#)
        );
    }

    #[test]
    fn members_keep_the_order_that_a_new_reader_sees() {
        let steps = json_patch(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#);
        assert_eq!(&*steps, r#"{"op":"replace","path":"","value":{"b":2,"a":1}}"#);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3..3).prop_map(Value::from),
            "[a-c~/\"\\\\é]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let name = "(_id|[a-c~/\"]{0,2})";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
                prop::collection::vec((0..6, -3..3), 0..6).prop_map(|rows| {
                    let row = |(id, n): (i32, i32)| serde_json::json!({ "_id": format!("t:{id}"), "n": n, "text": "longer" });
                    rows.into_iter().map(row).collect()
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn who_applies_it_has_the_new_value(old in value(), new in value()) {
            let (before, after) = (old.to_string(), new.to_string());
            let steps = json_patch(&before, &after);
            prop_assert_eq!(applied(&before, &steps), new);
            let whole = format!(r#"{{"op":"replace","path":"","value":{after}}}"#);
            prop_assert!(steps.len() <= whole.len());
        }
    }
}
