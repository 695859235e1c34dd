//! Arrays: `tags @> ARRAY['x']`, `'x' = ANY(tags)`, `tags && $1`.
//!
//! Postgres compares elements by their type's equality, whatever the array's dimensions. An array's null elements
//! equal nothing: `@>` and `&&` are false for them, `= ANY` may be null.

use super::{ConditionReader, Subject, same_keys};
use crate::analyse::comparand::{Comparand, cast};
use crate::analyse::type_name::plain_type;
use crate::array::array_elements;
use crate::template::{SlotReads, SlotSpec};
use convoy_query_index::{Condition, Operand};
use convoy_types::{Key, PgType};
use sqlparser::ast::{ArrayElemTypeDef, CastKind, DataType, Expr};

/// Constants with more elements are not read.
const ELEMENTS_MAX: usize = 1000;

/// How two arrays are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArrayOp {
    /// `@>`
    Contains,
    /// `&&`
    Overlaps,
}

/// The other side of a comparison of arrays.
enum Elements {
    /// The elements of a constant; none for null ones.
    Constant(Vec<Option<Key>>),
    Param(usize),
}

impl ConditionReader<'_, '_> {
    /// `array @> other`, `array && other`
    pub(super) fn arrays(&mut self, array: &Expr, op: ArrayOp, other: &Expr) -> Option<Condition> {
        let array = self.subject(array)?;
        let element = array.element()?;
        let field = array.field;
        let has = |key: Key| Condition::HasElement { field, operand: Operand::Constant(Some(key)) };
        Some(match (op, self.elements(&array, &element, other)?) {
            (ArrayOp::Contains, Elements::Constant(elements)) => {
                let has_null = elements.contains(&None);
                let mut parts = elements.into_iter().flatten().map(has).collect::<Vec<_>>();
                match (parts.pop(), has_null) {
                    // What contains nothing, every array does.
                    (None, _) => return None,
                    (Some(only), false) if parts.is_empty() => only,
                    (Some(last), false) => {
                        parts.push(last);
                        Condition::And(parts)
                    }
                    // What contains a null, no array does.
                    (Some(last), true) => {
                        parts.extend([last, Condition::Unknown]);
                        Condition::And(parts)
                    }
                }
            }
            (ArrayOp::Overlaps, Elements::Constant(elements)) => {
                let parts = elements.into_iter().flatten().map(has).collect::<Vec<_>>();
                if parts.is_empty() {
                    return None;
                }
                Condition::Or(parts)
            }
            (ArrayOp::Contains, Elements::Param(param)) => {
                let spec = SlotSpec { param, ty: element.ty, reads: SlotReads::AnElement };
                let operand = self.slot(spec)?;
                // One of the argument's elements is looked for, and it may have more.
                Condition::And(vec![Condition::HasElement { field, operand }, Condition::Unknown])
            }
            // An argument may be null, which makes the comparison null.
            (ArrayOp::Overlaps, Elements::Param(_)) if self.is_negated() => return None,
            (ArrayOp::Overlaps, Elements::Param(param)) => {
                let spec = SlotSpec { param, ty: element.ty, reads: SlotReads::Elements };
                Condition::HasElement { field, operand: self.slot(spec)? }
            }
        })
    }

    /// `value = ANY (array)`
    pub(super) fn any_element(&mut self, value: &Expr, array: &Expr) -> Option<Condition> {
        let array = self.subject(array)?;
        // Null where an element is null and no other equals the value; that is as good as false, but under a NOT.
        if self.is_negated() {
            return None;
        }
        let value = self.value(value)?;
        let operand = self.operand(&array.element()?, &value)?;
        Some(Condition::HasElement { field: array.field, operand })
    }

    fn elements(&mut self, array: &Subject, element: &Subject, other: &Expr) -> Option<Elements> {
        match other {
            Expr::Nested(inner) => return self.elements(array, element, inner),
            Expr::Array(list) => {
                let values = list.elem.iter().map(|value| self.value(value));
                let values = values.collect::<Option<Vec<_>>>()?;
                return self.keys(element, values);
            }
            // The type is that of each element.
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
                ..
            } if let (Expr::Array(list), Some(of)) = (&**expr, element_type(data_type)) => {
                if plain_type(of)? != element.ty {
                    return None;
                }
                let values =
                    list.elem.iter().map(|value| cast(&self.value(value)?, of, self.params()));
                let values = values.collect::<Option<Vec<_>>>()?;
                return self.keys(element, values);
            }
            _ => {}
        }
        match self.value(other)? {
            Comparand::Param(param) => {
                let of = self.params().get(param)?;
                let same = of.type_oid == array.type_oid
                    || matches!(&of.ty, PgType::Array(of) if same_keys(&element.ty, of));
                same.then_some(Elements::Param(param))
            }
            Comparand::Untyped(text) => self.literal(array, element, &text),
            Comparand::Typed(ty, None, text) if ty == array.ty => {
                self.literal(array, element, &text)
            }
            _ => None,
        }
    }

    fn keys(&mut self, element: &Subject, values: Vec<Comparand>) -> Option<Elements> {
        if values.len() > ELEMENTS_MAX {
            return None;
        }
        let key = |value: &Comparand| match self.operand(element, value)? {
            Operand::Constant(key) => Some(key),
            Operand::Slot(_) => None,
        };
        values.iter().map(key).collect::<Option<Vec<_>>>().map(Elements::Constant)
    }

    /// Reads `'{a,b}'`.
    fn literal(&mut self, array: &Subject, element: &Subject, text: &str) -> Option<Elements> {
        let text = self.constants.array_text(&array.type_name, text)?;
        let elements = array_elements(&text);
        if elements.len() > ELEMENTS_MAX {
            return None;
        }
        let key = |text: &Option<String>| match text {
            Some(text) => Key::of(&element.ty, text.as_bytes()).ok().map(Some),
            None => Some(None),
        };
        elements.iter().map(key).collect::<Option<Vec<_>>>().map(Elements::Constant)
    }
}

impl Subject {
    /// Returns an array's element as something to compare, if that can be told by keys.
    fn element(&self) -> Option<Subject> {
        let PgType::Array(of) = &self.ty else { return None };
        let element = Subject {
            field: self.field,
            ty: (**of).clone(),
            // Not known, and needed for enums alone.
            type_oid: 0,
            type_name: self.type_name.strip_suffix("[]")?.to_owned(),
            collation: self.collation,
        };
        element.has_equality().then_some(element)
    }
}

fn element_type(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, None)) => Some(element),
        _ => None,
    }
}
