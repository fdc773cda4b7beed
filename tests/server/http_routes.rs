//! The HTTP routes in the sources.

use std::collections::BTreeSet;
use std::path::Path;

/// The first argument of every `.route(`.
pub(crate) fn collect(directory: &Path, routes: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, routes);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for other in [".nest(", ".nest_service(", ".route_service("] {
                let file = path.display();
                assert!(!text.contains(other), "{file}: `{other}` hides its paths");
            }
            let calls = text.split(".route(").skip(1);
            routes.extend(calls.map(|call| {
                let literal = call
                    .trim_start()
                    .strip_prefix('"')
                    .expect("a route is a literal");
                literal.split('"').next().unwrap().to_owned()
            }));
        }
    }
}
