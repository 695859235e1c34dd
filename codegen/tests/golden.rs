//! Generated texts, as they are expected: `shop/_generated`. `CONVOY_BLESS=1` writes them anew.

use crate::shop::{project, tests};
use convoy_codegen::{check, generate, write};

#[test]
fn the_shop_is_as_it_was() {
    let root = tests().join("shop");
    let files = generate(&project()).expect("a good project");
    if std::env::var("CONVOY_BLESS").is_ok_and(|value| value == "1") {
        write(&root, &files).expect("written");
    }
    let stale: Vec<String> =
        check(&root, &files).expect("read").iter().map(ToString::to_string).collect();
    assert!(stale.is_empty(), "{}\nCONVOY_BLESS=1 writes them anew", stale.join("\n"));
}

#[test]
fn texts_depend_on_nothing_but_the_project() {
    let mut project = project();
    let files = generate(&project).expect("a good project");
    project.functions.reverse();
    project.queries.reverse();
    assert_eq!(generate(&project).expect("a good project"), files);
    for file in files {
        assert!(file.text.ends_with('\n') && !file.text.ends_with("\n\n"), "{}", file.name);
    }
}
