//! TypeScript to JavaScript: types are taken away, nothing else is changed. JavaScript stays as it is, to the letter.

use super::position::{LineMap, Position, line_and_column};
use crate::project::ProjectError;
use oxc::allocator::Allocator;
use oxc::ast::ast::{Program, Statement};
use oxc::codegen::{Codegen, CodegenOptions};
use oxc::diagnostics::Diagnostics;
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::span::SourceType;
use oxc::syntax::module_record::ModuleRecord;
use oxc::transformer::{TransformOptions, Transformer};
use std::path::Path;

/// A module as the engine takes it.
pub(crate) struct Transpiled {
    pub(crate) code: String,
    /// None where the code is the source itself.
    pub(crate) lines: Option<LineMap>,
    pub(crate) imports: Vec<Import>,
}

/// A module that another one asks for, and where it does.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) specifier: String,
    pub(crate) at: Position,
    /// Of `export * as name from`, the name.
    pub(crate) namespace: Option<String>,
}

/// Makes JavaScript of a module; its name's ending says what it is.
///
/// # Errors
/// `Syntax` with the place, `CommonJs`.
pub(crate) fn transpile(name: &str, text: &str) -> Result<Transpiled, ProjectError> {
    let file = Position { file: name.to_owned(), line: 1, column: 1 };
    let path = Path::new(name);
    if path.extension().is_some_and(|extension| extension == "json") {
        return json(&file, text);
    }
    let Ok(kind) = SourceType::from_path(path) else {
        return Err(ProjectError::Syntax {
            at: file,
            message: "only .ts, .tsx, .js, .mjs and .json files can be imported".to_owned(),
        });
    };
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, kind.with_module(true)).parse();
    first_error(&file, text, &parsed.diagnostics)?;
    let (mut program, record) = (parsed.program, parsed.module_record);
    if !record.has_module_syntax && (text.contains("module.exports") || text.contains("exports.")) {
        return Err(ProjectError::CommonJs { file: name.to_owned() });
    }
    let dynamic = dynamic_imports(&file, text, &record);
    if !kind.is_typescript() && !kind.is_jsx() {
        let imports = imports(&file, text, &program).chain(dynamic).collect();
        return Ok(Transpiled { code: text.to_owned(), lines: None, imports });
    }
    let semantic =
        SemanticBuilder::new().with_excess_capacity(2.0).with_enum_eval(true).build(&program);
    first_error(&file, text, &semantic.diagnostics)?;
    let options = TransformOptions::default();
    let transformed = Transformer::new(&allocator, path, &options)
        .build_with_scoping(semantic.semantic.into_scoping(), &mut program);
    first_error(&file, text, &transformed.diagnostics)?;
    let options =
        CodegenOptions { source_map_path: Some(path.to_owned()), ..CodegenOptions::default() };
    let generated = Codegen::new().with_options(options).build(&program);
    let imports = imports(&file, text, &program).chain(dynamic).collect();
    Ok(Transpiled { lines: LineMap::of(&generated), code: generated.code, imports })
}

fn json(file: &Position, text: &str) -> Result<Transpiled, ProjectError> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let (line, column) = (error.line() as u32, error.column() as u32);
        return Err(ProjectError::Syntax {
            at: Position { line, column, ..file.clone() },
            message: error.to_string(),
        });
    }
    Ok(Transpiled { code: format!("export default {text};"), lines: None, imports: Vec::new() })
}

fn first_error(file: &Position, text: &str, diagnostics: &Diagnostics) -> Result<(), ProjectError> {
    let Some(error) = diagnostics.errors().next() else { return Ok(()) };
    let offset = error.labels.first().map_or(0, oxc::diagnostics::LabeledSpan::offset);
    let help = error.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    let message = format!("{}{help}", error.message);
    Err(ProjectError::Syntax { at: place(file, text, offset as usize), message })
}

fn place(file: &Position, text: &str, offset: usize) -> Position {
    let (line, column) = line_and_column(text, offset);
    Position { file: file.file.clone(), line, column }
}

/// What a module imports once its types are gone.
fn imports<'a>(
    file: &'a Position,
    text: &'a str,
    program: &'a Program<'_>,
) -> impl Iterator<Item = Import> + 'a {
    program
        .body
        .iter()
        .filter_map(|statement| match statement {
            Statement::ImportDeclaration(import) => Some((&import.source, None)),
            Statement::ExportAllDeclaration(export) => {
                Some((&export.source, export.exported.as_ref()))
            }
            Statement::ExportFromDeclaration(export) => Some((&export.source, None)),
            _ => None,
        })
        .map(|(source, namespace)| Import {
            specifier: source.value.to_string(),
            at: place(file, text, source.span.start as usize),
            namespace: namespace.map(|name| name.name().to_string()),
        })
}

/// `import('./x')` where what is imported stands there as it is.
fn dynamic_imports(file: &Position, text: &str, record: &ModuleRecord<'_>) -> Vec<Import> {
    let literal = |span: oxc::span::Span| {
        let inner = text.get(span.start as usize..span.end as usize)?;
        let quote = inner.chars().next().filter(|quote| "'\"`".contains(*quote))?;
        let specifier = inner.strip_prefix(quote)?.strip_suffix(quote)?;
        (!specifier.contains(['\\', '$'])).then(|| Import {
            specifier: specifier.to_owned(),
            at: place(file, text, span.start as usize),
            namespace: None,
        })
    };
    record.dynamic_imports.iter().filter_map(|import| literal(import.module_request)).collect()
}
