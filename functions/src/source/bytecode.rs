//! Modules as the engine's bytecode. Reading bytecode is a third of the work of reading source, and each context has to.

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::{Declared, WriteOptions};
use rquickjs::{CatchResultExt, Context, Ctx, Module, Runtime};

/// One module's bytecode. Nobody but this file makes any, so what is loaded was written by the same engine in this process.
#[derive(Debug)]
pub(crate) struct Bytecode(Vec<u8>);

/// Stands for every module that one being compiled imports: compiling does not look into them.
struct Stub;

impl Resolver for Stub {
    fn resolve<'js>(
        &mut self,
        _: &Ctx<'js>,
        _: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        // Not the name of the module itself, whatever it imports.
        Ok(format!("stub:{name}"))
    }
}

impl Loader for Stub {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        Module::declare(ctx.clone(), name, "")
    }
}

impl Bytecode {
    /// Compiles a module of JavaScript.
    ///
    /// # Errors
    /// What the engine says of it.
    pub(crate) fn compile(name: &str, code: &str) -> Result<Self, String> {
        let compile = || -> rquickjs::Result<Result<Self, String>> {
            let runtime = Runtime::new()?;
            runtime.set_loader(Stub, Stub);
            let context = Context::full(&runtime)?;
            Ok(context.with(|ctx| {
                let module = Module::declare(ctx.clone(), name, code)
                    .catch(&ctx)
                    .map_err(|error| error.to_string())?;
                // The source is for `Function.prototype.toString` alone.
                let options = WriteOptions { strip_source: true, ..WriteOptions::default() };
                module.write(options).map(Self).map_err(|error| error.to_string())
            }))
        };
        compile().map_err(|error| error.to_string())?
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Makes the module known to a context.
    #[allow(
        unsafe_code,
        reason = "bytecode is not checked when it is loaded; this was written by `compile`, above"
    )]
    pub(crate) fn load<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<Module<'js, Declared>> {
        // SAFETY: the bytes are what `Module::write` of this very engine gave in this process, unchanged: the field is private
        // to this file, and nothing else makes one.
        unsafe { Module::load(ctx.clone(), &self.0) }
    }

    /// Returns how large it is.
    pub(crate) fn len_bytes(&self) -> usize {
        self.0.len()
    }
}
