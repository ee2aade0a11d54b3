//! placeholder
/// schema
pub fn schema() -> String {
    String::new()
}
