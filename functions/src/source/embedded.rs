//! The modules that are part of Convoy: what functions import as `convoy`, and what runs them.

/// The module that stands for `convoy`.
pub(crate) const CONVOY: &str = "convoy:server/index.ts";

/// The module that stands for `convoy/api`, which generated code imports.
pub(crate) const API: &str = "convoy:api.ts";

macro_rules! modules {
    ($($prefix:literal $folder:literal: $($file:literal)*;)*) => {
        &[$($((concat!("convoy:", $prefix, $file), include_str!(concat!($folder, "/", $file))),)*)*]
    };
}

const MODULES: &[(&str, &str)] = modules! {
    "" "../../../client/src": "api.ts" "types.ts";
    "server/" "../../../client/src/server":
        "data-model.ts" "database.ts" "errors.ts" "functions.ts" "index.ts" "pagination.ts" "schema.ts" "sql.ts" "validator.ts";
    "engine/" "../../js":
        "auth.ts" "database.ts" "describe.ts" "empty.js" "filter.ts" "host.ts" "identify.ts" "invoke.ts" "query.ts" "validate.ts";
    "engine/world/" "../../js/world":
        "absent.js" "bytes.js" "chance.js" "console.js" "define.js" "index.js" "time.js" "url.js";
};

/// Returns the text of one of Convoy's own modules.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    MODULES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Returns the module that one of Convoy's own means by a specifier; none where it means a package.
pub(crate) fn resolve(base: &str, specifier: &str) -> Option<String> {
    let folder = || base.rsplit_once('/').map(|(folder, _)| folder);
    let name = match (specifier.strip_prefix("./"), specifier.strip_prefix("../")) {
        (Some(file), _) => format!("{}/{file}", folder()?),
        (None, Some(file)) => match folder()?.rsplit_once('/') {
            Some((above, _)) => format!("{above}/{file}"),
            None => format!("convoy:{file}"),
        },
        (None, None) => specifier.to_owned(),
    };
    let typescript = name.strip_suffix(".js").map(|stem| format!("{stem}.ts"));
    [Some(name), typescript].into_iter().flatten().find(|name| text(name).is_some())
}
