//! Which file an import means.

use super::embedded;
use super::transpile::Import;
use crate::project::ProjectError;
use oxc_resolver::{Resolution, ResolveOptions, Resolver, SideEffects, TsconfigDiscovery};
use std::path::{Component, Path, PathBuf};

/// A module that an import means.
pub(crate) enum Resolved {
    /// One of Convoy's own, by its name.
    Embedded(String),
    /// A file, and whether its package says that evaluating it does nothing but define what it exports.
    File { path: PathBuf, is_pure: bool },
}

/// Resolves the imports of one project. What it has seen of the folder it keeps, so a changed folder gets a new one.
pub(crate) struct Imports {
    root: PathBuf,
    resolver: Resolver,
    /// The same, with the `paths` of the nearest tsconfig.json.
    aliases: Resolver,
}

impl Imports {
    pub(crate) fn new(root: &Path) -> Self {
        let strings =
            |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let options = ResolveOptions {
            condition_names: strings(&["convoy", "import", "module", "default"]),
            main_fields: strings(&["module", "main"]),
            extensions: strings(&[".ts", ".tsx", ".js", ".mjs", ".json"]),
            extension_alias: vec![
                (".js".to_owned(), strings(&[".js", ".ts", ".tsx"])),
                (".mjs".to_owned(), strings(&[".mjs", ".mts"])),
            ],
            ..ResolveOptions::default()
        };
        let resolver = Resolver::new(options.clone());
        let aliases = resolver.clone_with_options(ResolveOptions {
            tsconfig: Some(TsconfigDiscovery::Auto),
            ..options
        });
        Self { root: root.to_owned(), resolver, aliases }
    }

    /// Returns the module that `import` means in the module of the name `base`, whose file is `from`.
    ///
    /// # Errors
    /// `Import`, with what to do.
    pub(crate) fn resolve(
        &self,
        base: &str,
        from: Option<&Path>,
        import: &Import,
    ) -> Result<Resolved, ProjectError> {
        let specifier = import.specifier.as_str();
        if base.starts_with("convoy:")
            && let Some(name) = embedded::resolve(base, specifier)
        {
            return Ok(Resolved::Embedded(name));
        }
        if specifier == "convoy" {
            return Ok(Resolved::Embedded(embedded::CONVOY.to_owned()));
        }
        if specifier == "convoy/api" {
            return Ok(Resolved::Embedded(embedded::API.to_owned()));
        }
        let fail = |reason: String| {
            Err(ProjectError::Import {
                at: import.at.clone(),
                specifier: specifier.to_owned(),
                reason,
            })
        };
        if specifier.starts_with("convoy/") || specifier.starts_with("convoy:") {
            return fail("functions import 'convoy' alone; convoy/client and convoy/react are for the browser".to_owned());
        }
        if specifier.starts_with("node:") {
            return fail(
                "functions run inside Convoy, without Node: its modules are not there".to_owned(),
            );
        }
        let folder = from.and_then(Path::parent).unwrap_or(&self.root);
        let found = self.resolver.resolve(folder, specifier);
        // Only where nothing else is of that name: a tsconfig.json that is not in order is the editor's to tell of.
        let found = match (found, from) {
            (Err(error), Some(file)) if !specifier.starts_with('.') => {
                self.aliases.resolve_file(file, specifier).map_err(|_| error)
            }
            (found, _) => found,
        };
        match found {
            Ok(found) => Ok(Resolved::File { is_pure: is_pure(&found), path: found.into_path_buf() }),
            Err(_) if specifier == "zod" => fail("the schema and arguments are zod's types: npm install zod".to_owned()),
            Err(_) if specifier.contains("_generated/") => {
                fail("there is no such file yet: `convoy dev --once --no-serve` generates it".to_owned())
            }
            Err(_) if specifier.starts_with('.') => {
                fail("there is no such file, with .ts, .tsx, .js, .mjs or .json, and no such folder with an index".to_owned())
            }
            Err(error) => fail(format!("no package of that name can be used: {error}; if it is missing, npm install it")),
        }
    }

    /// Returns the name of a file's module: its path from the root.
    pub(crate) fn name(&self, path: &Path) -> String {
        let mut root: Vec<Component<'_>> = self.root.components().collect();
        let mut path: Vec<Component<'_>> = path.components().collect();
        let shared = root.iter().zip(&path).take_while(|(ours, its)| ours == its).count();
        root.drain(..shared);
        path.drain(..shared);
        let up = root.iter().map(|_| "..".to_owned());
        up.chain(path.iter().map(|part| part.as_os_str().to_string_lossy().into_owned()))
            .collect::<Vec<_>>()
            .join("/")
    }
}

/// Whether a file's package says that it has no side effects. Patterns are not looked into: then it may have some.
fn is_pure(found: &Resolution) -> bool {
    let Some(package) = found.package_json() else { return false };
    let file = found.path().strip_prefix(package.directory()).ok().and_then(Path::to_str);
    match package.side_effects() {
        Some(SideEffects::Bool(has_some)) => !has_some,
        Some(SideEffects::Array(files)) => files
            .iter()
            .all(|of| !of.contains(['*', '{', '[']) && Some(of.trim_start_matches("./")) != file),
        Some(SideEffects::String(_)) | None => false,
    }
}
