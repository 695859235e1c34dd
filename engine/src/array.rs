//! Postgres' array literals: the elements, whatever the dimensions.

/// Returns the elements of an array's output text (`{1,NULL,"a b"}`), null ones as none; a lower-bound prefix is passed
/// over. What is no array gives no elements.
pub(crate) fn array_elements(text: &str) -> Vec<Option<String>> {
    let Some(body) = text.find('{').and_then(|start| text[start + 1..].strip_suffix('}')) else {
        return Vec::new();
    };
    let mut elements = Vec::new();
    let mut element = String::new();
    let (mut is_quoted, mut was_quoted, mut is_escaped) = (false, false, false);
    let mut finish = |element: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(element);
        let is_null = !*was_quoted && text.eq_ignore_ascii_case("null");
        *was_quoted = false;
        elements.push((!is_null).then_some(text));
    };
    for character in body.chars() {
        match character {
            _ if is_escaped => {
                element.push(character);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => {
                is_quoted = !is_quoted;
                was_quoted = true;
            }
            // Further dimensions; a brace of an element's own is quoted.
            '{' | '}' if !is_quoted => {}
            ',' if !is_quoted => finish(&mut element, &mut was_quoted),
            _ => element.push(character),
        }
    }
    if !body.is_empty() {
        finish(&mut element, &mut was_quoted);
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_unquoted() {
        let check = |text: &str, expect: &[Option<&str>]| {
            let elements = array_elements(text);
            assert_eq!(elements.iter().map(Option::as_deref).collect::<Vec<_>>(), expect, "{text}");
        };
        check("{}", &[]);
        check("{1,2}", &[Some("1"), Some("2")]);
        check(
            r#"{NULL,"NULL","a,b","q\"\\",""}"#,
            &[None, Some("NULL"), Some("a,b"), Some("q\"\\"), Some("")],
        );
        check("[2:3]={1,2}", &[Some("1"), Some("2")]);
        // `= ANY` looks through all dimensions.
        check(r#"{{a,"{"},{"}",NULL}}"#, &[Some("a"), Some("{"), Some("}"), None]);
        check("[1:1][0:1]={{1,2}}", &[Some("1"), Some("2")]);
    }
}
