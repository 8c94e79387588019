//! The side that calls.

use super::{Call, Context, Shape};

impl Context<'_> {
    pub(super) fn client(&self) -> String {
        let name = self.type_name();
        let functions: String = self.calls().map(|call| self.functions(&call)).collect();
        format!(
            "/// Calls a [`{name}`]. Cheap to clone.\n\
             #[derive(Debug, Clone)]\n\
             pub struct {name}Client {{\n    client: rpc::Client,\n}}\n\n\
             impl {name}Client {{\n\
             /// A client on `rpc`.\n\
             pub fn new(rpc: &rpc::Rpc) -> Self {{\n\
             Self::from_client(rpc.client(config()))\n}}\n\n\
             /// Calls through `client`, which may have interceptors and a prefix of its own.\n\
             pub fn from_client(client: rpc::Client) -> Self {{\n\
             {name}Client {{ client }}\n}}\n\n\
             /// What it calls through.\n\
             pub fn client(&self) -> &rpc::Client {{\n&self.client\n}}\n\n{functions}}}\n\n"
        )
    }

    /// What a method has at a client.
    fn functions(&self, call: &Call<'_>) -> String {
        let (request, response) = (call.request(1), call.response(1));
        let library = &self.generator.library;
        let method = format!("methods::{}()", call.name);
        let docs = call.docs(2, &format!("Calls `{}`.", call.method.proto_name));
        let name = call.client_name();
        let (arguments, result, body) = match call.shape {
            Shape::Unary => (
                format!(", request: {request}"),
                format!("{library}::Call<rpc::Unary<{response}>>"),
                format!("self.client.call({method}, request)"),
            ),
            Shape::ServerStream => (
                format!(", request: {request}"),
                format!("{library}::Call<rpc::Open<rpc::Receiver<{response}>>>"),
                format!("self.client.server_stream({method}, request)"),
            ),
            Shape::ClientStream => (
                String::new(),
                format!("{library}::Call<rpc::Open<rpc::ClientStream<{request}, {response}>>>"),
                format!("self.client.client_stream({method})"),
            ),
            Shape::Bidi => (
                String::new(),
                format!(
                    "{library}::Call<rpc::Open<(rpc::Sender<{request}>, rpc::Receiver<{response}>)>>"
                ),
                format!("self.client.bidi({method})"),
            ),
        };
        let mut out =
            format!("{docs}pub fn {name}(&self{arguments}) -> {result} {{\n{body}\n}}\n\n");

        let stores = [
            ("kv", "key-value bucket", &call.method.kv),
            ("objects", "bucket of objects", &call.method.objects),
        ];
        for (place, bucket, _) in stores.iter().filter(|(_, _, store)| store.is_some()) {
            out.push_str(&format!(
                "/// The responses of `{}` that are kept in its {bucket}.\n\
                 pub fn {place}_{}(&self) -> rpc::Stored<{request}, {response}> {{\n\
                 self.client.{place}({method})\n}}\n\n",
                call.method.proto_name, call.part
            ));
        }
        if let Some((key, _)) = call.keys().first() {
            out.push_str(&format!(
                "/// The key that the response of `{}` to this request is kept under.\n///\n\
                 /// # Errors\n/// `InvalidInput` naming the field that cannot stand in a key.\n\
                 pub fn {}_key(&self, request: &{request}) -> {library}::Result<String> {{\n\
                 keys::{key}(request)\n}}\n\n",
                call.method.proto_name, call.part
            ));
        }
        out
    }
}

impl Call<'_> {
    /// Beside the client's own functions.
    fn client_name(&self) -> String {
        match self.name.as_str() {
            "new" | "from_client" | "client" => format!("{}_", self.name),
            _ => self.name.clone(),
        }
    }
}
