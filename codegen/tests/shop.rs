//! A project in a folder of its own, as a user would have it: copied from `shop/`, with what is generated of it.

use crate::npm;
use convoy_codegen::{
    FunctionEntry, FunctionKind, Project, QueryColumn, QueryParam, SqlQuery, ValueType, Visibility,
    generate, write,
};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the folder of the tests.
pub fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Returns the export of a module as a function.
pub fn function(
    kind: FunctionKind,
    visibility: Visibility,
    module: &str,
    export: &str,
) -> FunctionEntry {
    let path = module.strip_prefix("functions/").expect("a module of functions");
    FunctionEntry {
        name: format!("{}.{export}", path.replace('/', ".")),
        kind,
        visibility,
        module: module.to_owned(),
        export: export.to_owned(),
    }
}

/// What `shop/` has.
pub fn project() -> Project {
    use FunctionKind::{Mutation, Query};
    use Visibility::{Internal, Public};
    Project {
        functions: vec![
            function(Query, Public, "functions/orders", "list"),
            function(Query, Public, "functions/orders", "count"),
            function(Mutation, Public, "functions/orders", "create"),
            function(Mutation, Internal, "functions/orders", "sweep"),
            function(Query, Public, "functions/admin/users", "find"),
        ],
        queries: queries(),
        has_schema: true,
        has_server: false,
    }
}

fn queries() -> Vec<SqlQuery> {
    let column = |name: &str, ty, nullable| QueryColumn {
        name: name.to_owned(),
        ty,
        nullable,
        stated: None,
    };
    let by_tenant = SqlQuery {
        name: "orders.byTenant".to_owned(),
        file: "queries/orders/byTenant.sql".to_owned(),
        params: vec![QueryParam {
            name: "tenant".to_owned(),
            ty: ValueType::Number,
            nullable: false,
            optional: false,
        }],
        columns: vec![
            column("id", ValueType::Digits, false),
            column("total", ValueType::Digits, true),
        ],
    };
    let totals = SqlQuery {
        name: "totals".to_owned(),
        file: "queries/totals.sql".to_owned(),
        params: Vec::new(),
        columns: vec![column("orders", ValueType::Digits, false)],
    };
    vec![totals, by_tenant]
}

/// A project on the disk, gone with this.
pub struct Shop(tempfile::TempDir);

impl Shop {
    /// Copies `shop/` and generates what belongs to this project.
    pub fn of(project: &Project) -> Shop {
        let shop = Shop::empty(project);
        copy(&tests().join("shop"), shop.path());
        shop.generate(project);
        shop
    }

    /// Generates what belongs to this project, whose own files are still to be written.
    pub fn empty(project: &Project) -> Shop {
        // TypeScript looks into no folder that begins with a dot.
        let folder = tempfile::Builder::new().prefix("shop").tempdir();
        let shop = Shop(folder.expect("a folder"));
        shop.generate(project);
        let tests = tests();
        let options = serde_json::json!({
            "compilerOptions": {
                "target": "es2022",
                "lib": ["es2022", "dom"],
                "module": "esnext",
                "moduleResolution": "bundler",
                "strict": true,
                "noUncheckedIndexedAccess": true,
                "exactOptionalPropertyTypes": true,
                "noUnusedLocals": true,
                "verbatimModuleSyntax": true,
                "isolatedModules": true,
                "types": [],
                "paths": {
                    "convoy": [tests.join("fixture/convoy.ts")],
                    "convoy/api": [tests.join("../../client/src/api.ts")],
                    "use": [tests.join("fixture/use.ts")],
                    "zod": [npm::modules().join("zod")],
                },
            },
            "include": ["."],
        });
        shop.file("tsconfig.json", &options.to_string());
        shop
    }

    fn generate(&self, project: &Project) {
        let files = generate(project).expect("a good project");
        write(self.path(), &files).expect("written");
    }

    /// Changes an option of the compiler.
    pub fn option(&self, name: &str, value: serde_json::Value) {
        let path = self.path().join("tsconfig.json");
        let text = fs::read_to_string(&path).expect("a file");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config["compilerOptions"][name] = value;
        fs::write(&path, config.to_string()).expect("a file");
    }

    /// Returns the project's root.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).expect("copied");
        }
    }
}
