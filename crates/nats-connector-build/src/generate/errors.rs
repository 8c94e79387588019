//! The error codes of a service.

use crate::names::{rust_constant, rust_part, rust_snake};

use super::{Context, text};

impl Context<'_> {
    /// Constants, constructors and checkers.
    pub(super) fn errors(&self) -> String {
        let mut out = String::new();
        for code in &self.service.error_codes {
            let (constant, name) = (rust_constant(code), rust_snake(code));
            let is = format!("is_{}", rust_part(code));
            out.push_str(&format!(
                "/// The code `{code}`.\npub const {constant}: &str = {};\n\n\
                 /// An error of this code, with a text for whoever calls.\n\
                 pub fn {name}(message: impl Into<String>) -> RpcError {{\n\
                 RpcError::new({constant}, message)\n}}\n\n\
                 /// Whether the error has the code `{code}`.\n\
                 pub fn {is}(error: &RpcError) -> bool {{\nerror.is({constant})\n}}\n\n",
                text(code)
            ));
        }
        if out.is_empty() {
            return out;
        }
        format!(
            "/// The errors of the service's own.\npub mod errors {{\n\
             use {}::rpc::RpcError;\n\n{out}}}\n",
            self.generator.library
        )
    }
}
