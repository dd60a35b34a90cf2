//! Every stable error code: what it means, and what to do about it.
//!
//! A code travels in the header `X-Kvasir-Error` of every failed request, whatever the dialect's own
//! body looks like, and in `type` where the body is a problem. `kvasir explain CODE` prints what
//! stands here. A test reads the sources and fails for a code without its text.

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The code itself. Never changes its meaning, and is never used again for another one.
    pub name: &'static str,
    /// Statuses it comes with.
    pub statuses: &'static [u16],
    /// Why it happens, in one sentence.
    pub cause: &'static str,
    /// What to do, in one sentence.
    pub remedy: &'static str,
    /// What helps to know beyond that.
    pub more: &'static str,
}

/// The text of a code; a problem's whole `type` is as good as its code.
pub fn find(name: &str) -> Option<&'static Code> {
    let name = name.strip_prefix("urn:kvasir:error:").unwrap_or(name);
    ALL.iter().find(|code| code.name.eq_ignore_ascii_case(name))
}

const fn code(
    name: &'static str,
    statuses: &'static [u16],
    cause: &'static str,
    remedy: &'static str,
    more: &'static str,
) -> Code {
    Code {
        name,
        statuses,
        cause,
        remedy,
        more,
    }
}

/// All codes: those of every dialect first, then those of one.
pub const ALL: &[Code] = &[
    // Requests that are wrong.
    code(
        "bad_request",
        &[400],
        "The request does not say what it must: the path, a parameter, a header or the body is wrong.",
        "Change what the sentence in the answer names, and send it again.",
        "The same request will always fail. Where several members of a body can be wrong at once, the answer names all of them.",
    ),
    code(
        "invalid_body",
        &[400],
        "Members of the body are missing or not what they must be.",
        "Mend every member that `errors` lists: each with its path, a code and a sentence.",
        "All faults of a body come together. Members that are not known are ignored.",
    ),
    code(
        "not_json",
        &[400],
        "The body is empty or is not JSON.",
        "Send JSON in UTF-8; a bare value such as 1, \"text\" or null is JSON too.",
        "The sentence names line and column of the first fault where there is one.",
    ),
    code(
        "too_many",
        &[400],
        "One request holds more checks, mutations, ranges or entries than one request may.",
        "Split it into several requests.",
        "The sentence names the number and the limit. Only what is in one request happens together or not at all.",
    ),
    code(
        "type_mismatch",
        &[400],
        "A sum, minimum or maximum meets a value that is no number of the same kind.",
        "Look at the stored value, and send an operand of its kind, or set the value anew.",
        "Nothing was changed, also not by the other mutations of the same request.",
    ),
    code(
        "too_large",
        &[413],
        "The body, the key or the value is larger than it may be.",
        "Make it smaller, or split it over several keys.",
        "The sentence names the limit. Operators set limits under `limits`; a value never exceeds 8 MiB, and KV Connect clients never store more than 64 KiB.",
    ),
    code(
        "unsupported_media_type",
        &[415],
        "The body says that it is something other than JSON in UTF-8, or that it is compressed.",
        "Send it as application/json, without a Content-Encoding.",
        "Bodies that say nothing are taken for JSON.",
    ),
    code(
        "not_found",
        &[404],
        "What the path names does not exist, or not for this caller.",
        "Look at the spelling of the path; list what is there.",
        "An entry that has expired does not exist any more. What a caller may not see looks like what is not there.",
    ),
    code(
        "no_such_route",
        &[404],
        "No route has this path.",
        "Look into /_/docs or /_/openapi.json for the routes of this server.",
        "A dialect that is switched off or moved has no routes at its usual place.",
    ),
    code(
        "not_serving",
        &[409],
        "The route is about a running server, and this is a data folder that none holds.",
        "Start the server, or name it with --server.",
        "",
    ),
    code(
        "bad_settings",
        &[400],
        "The settings that were read again are wrong. The running ones stay in force.",
        "Mend what the sentence names; `kvasir config check` looks without changing anything.",
        "The sentence names the file with line and column, the variable, or the flag.",
    ),
    code(
        "method_not_allowed",
        &[405],
        "The path exists and does not take this method.",
        "Use one of the methods in the Allow header of the answer.",
        "",
    ),
    code(
        "body_too_slow",
        &[408],
        "The body of the request came more slowly than the server waits.",
        "Send it again over a better connection.",
        "The limits are `limits.body_gap` and `limits.bytes_per_second_min`. Nothing was changed.",
    ),
    code(
        "timed_out",
        &[408],
        "The request took longer than its dialect allows.",
        "Read before you write again: what was begun was done as a whole or not at all.",
        "",
    ),
    // Concurrent changes.
    code(
        "conflict",
        &[409],
        "Somebody else changed the same thing at the same time, or a check of an atomic write does not hold.",
        "Read the present state and try again.",
        "Nothing was changed. An atomic write names the places of its failed checks.",
    ),
    code(
        "trash_full",
        &[409],
        "What is to be removed does not fit into the trash.",
        "Empty the trash with `kvasir trash empty`, or remove for good with `kvasir rm --prefix --purge`.",
        "The trash keeps 100,000 entries, 256 MiB and 1,000 removals at most, each for a week. The sentence names what was asked for and what fits.",
    ),
    code(
        "no_trash",
        &[409],
        "The data of this mount lies in a store of its own, and the trash is in the main one.",
        "Remove for good, without `trash=true`, or with `kvasir rm --prefix --purge`.",
        "An entry and its copy in the trash change places in one commit, which one store can do.",
    ),
    code(
        "occupied",
        &[409],
        "Keys of entries that were to come back from the trash hold something again.",
        "Choose `skip` to leave them alone, or `replace` to write over them.",
        "The sentence says how many. Nothing came back, unless the keys were written while others came back.",
    ),
    code(
        "precondition_failed",
        &[412],
        "If-Match or If-None-Match does not hold: the entry is in another version than the request says.",
        "Read the entry, look at what changed, and send the new entity tag.",
        "Nothing was changed.",
    ),
    // Who may do what.
    code(
        "unauthorized",
        &[401, 403],
        "There is no credential, or it is not valid: unknown, expired, revoked or of another kind.",
        "Send a valid credential; `kvasir token create` makes a token.",
        "Kopano's routes answer 403 here, as the original does. The answer never says which part of a credential was wrong.",
    ),
    code(
        "forbidden",
        &[403],
        "The credential is valid and does not allow this.",
        "Ask for a token with a grant that covers it; the page of tokens in the console tells what is missing.",
        "A grant names dialects, a keyspace, a prefix of keys and verbs. Administration needs the verb admin for everything.",
    ),
    code(
        "foreign_host",
        &[403],
        "The server is open on loopback only, and the request names another host.",
        "Use localhost or 127.0.0.1 in the address, or make a token: then names do not matter.",
        "This keeps web pages from reaching the server under a name that they control.",
    ),
    code(
        "foreign_origin",
        &[403],
        "A web page of another origin wants to change data on a server that is open on loopback.",
        "Make a token and let the page send it, or name its origin in the dialect's `cors_origins`.",
        "Programs that are not browsers send no Origin and are not concerned.",
    ),
    code(
        "forgery",
        &[403],
        "A change came with the console's cookie and without the word that proves that the console sent it.",
        "Load the console again and repeat the change there.",
        "Programs use a token instead of a cookie.",
    ),
    code(
        "insufficient_scope",
        &[403],
        "The OAuth2 access token is valid and lacks a scope that this server asks for.",
        "Let the application ask its identity provider for the scope in the WWW-Authenticate header.",
        "The scopes are set with `kopano.required_scopes`.",
    ),
    code(
        "too_many_requests",
        &[429],
        "Too many requests of this kind came from this address, with this token, or for this account.",
        "Wait for as many seconds as Retry-After says.",
        "Logins are counted by address and by email, and also answered so while too many passwords are being checked.",
    ),
    // The server and its store.
    code(
        "overloaded",
        &[503],
        "More requests are in progress than the server takes at once.",
        "Try again after the seconds in Retry-After, with growing pauses.",
        "The limit is `limits.requests_in_progress`. Health, metrics and administration keep a share of their own.",
    ),
    code(
        "job_running",
        &[409],
        "A backup, restore drill or another job is at work, and only one runs at a time.",
        "Wait for it, or stop it with `DELETE /_/api/v1/jobs/ID`.",
        "`GET /_/api/v1/jobs` lists the jobs and how far they are.",
    ),
    code(
        "unavailable",
        &[503],
        "The server is shutting down, or its store or identity provider cannot be reached.",
        "Try again after the seconds in Retry-After; operators look at /readyz and the log.",
        "A write that was answered so was not done.",
    ),
    code(
        "read_only",
        &[503],
        "The store takes no writes at the moment.",
        "Reads go on; operators look at /readyz and the log for the reason.",
        "",
    ),
    code(
        "outcome_unknown",
        &[503, 409],
        "The connection to the store broke while a write was under way, so nobody knows whether it was done.",
        "Read before you write again, or write with a check that fails if the first one was done.",
        "A write is done as a whole or not at all, also then. KV Connect clients get 409, because they repeat a 503 by themselves.",
    ),
    code(
        "no_space",
        &[507],
        "The disk of the server is full, or nearly.",
        "Operators make room; reading and deleting go on meanwhile, and writing comes back by itself.",
        "",
    ),
    code(
        "damaged",
        &[500, 422],
        "Stored bytes do not match their checksum.",
        "Operators stop the server, keep a copy of its folder, and run `kvasir store verify`.",
        "The request got no data rather than wrong data. KV Connect clients get 422, because they repeat a 500 for ever.",
    ),
    code(
        "internal",
        &[500],
        "The server met a fault of its own.",
        "Report it with the request id in X-Request-Id, by which the log of the server names the reason.",
        "",
    ),
    // Accounts.
    code(
        "user_exists",
        &[409],
        "A user with this email exists.",
        "Log in, or use another email.",
        "Emails are compared without regard to case and surrounding blanks.",
    ),
    code(
        "product_exists",
        &[409],
        "A product with this id exists.",
        "Change it with PUT, or leave the id out to get a new one.",
        "",
    ),
    code(
        "unknown_product",
        &[400],
        "An order names a product that does not exist.",
        "List the products, and order what is there.",
        "Entries below `products` that are no products do not count as such.",
    ),
    code(
        "registration_closed",
        &[403],
        "Registration is switched off on this server.",
        "Ask the operator for an account; `kvasir user create` makes one.",
        "The setting is `accounts.registration`.",
    ),
    // Classworks.
    code(
        "site_key",
        &[401],
        "This server asks for a site key, and the request has none or a wrong one.",
        "Enter the site key in the settings of the app, or send it as X-Site-Key.",
        "The setting is `classworks.site_key`.",
    ),
    code(
        "password",
        &[401],
        "The namespace has a password, and the request has none or a wrong one.",
        "Send the password as X-Namespace-Password.",
        "`GET .../_hint` tells what its owner wrote down as a hint.",
    ),
    code(
        "closed",
        &[401, 403],
        "The namespace of the site's own settings is for administrators.",
        "Use an administrator's token, or `kvasir classworks`.",
        "",
    ),
    code(
        "read_only_link",
        &[403],
        "The address is a link for reading.",
        "Write under the namespace itself.",
        "",
    ),
    code(
        "reserved_key",
        &[400],
        "The key is a word that names a route.",
        "Choose another key.",
        "The words are `_info`, `_check`, `_hint`, `_keys`, `_password`, `_checkpassword` and `_batchimport`.",
    ),
    // Kopano.
    code(
        "nothing_deleted",
        &[404],
        "There was no document to delete.",
        "Nothing is to be done.",
        "The answer has no body, as in the original.",
    ),
    // EdgeKV: the original's own codes, which its clients read from the body.
    code(
        "EKV_0000",
        &[500, 501, 503, 504],
        "The server met a fault of its own, is too busy, or the operation is not built.",
        "Try again if the status is 503 or 504.",
        "Downloading and uploading namespaces are known and not built; `kvasir edgekv import` and `kvasir export` do that.",
    ),
    code(
        "EKV_1000",
        &[401, 403],
        "The access token or the client does not allow this.",
        "Use a token with this namespace and permission, on this network.",
        "",
    ),
    code(
        "EKV_1002",
        &[400],
        "The namespace does not exist, or the client may not change it.",
        "List the namespaces of the network.",
        "",
    ),
    code(
        "EKV_2000",
        &[400],
        "The request is not valid.",
        "Change what `detail` names.",
        "",
    ),
    code(
        "EKV_2001",
        &[422],
        "The body is not a JSON object, or names a member twice.",
        "Send one JSON object.",
        "",
    ),
    code(
        "EKV_3000",
        &[404, 409],
        "It conflicts with what is stored: it is there already, or no token exists.",
        "Look at what is there, and use another name.",
        "",
    ),
    code(
        "EKV_9000",
        &[400, 401, 404, 413],
        "The database refuses a name or a value, does not have what was asked for, or is not initialized.",
        "Change what `detail` names; `PUT /edgekv/v1/initialize` comes before everything else.",
        "",
    ),
    code(
        "EKV_9100",
        &[429],
        "Too many requests.",
        "Wait for a second.",
        "",
    ),
    code(
        "edgegrid_deny",
        &[401],
        "The signature of the request is missing or wrong, or was used before.",
        "Compare the secrets in .edgerc, the clock and the address with what the server expects.",
        "The host that is signed must be the one that the server is reached under; behind a proxy set `edgekv.trust_forwarded_host`.",
    ),
    code(
        "edgegrid_request_error",
        &[400],
        "The Authorization header is no EdgeGrid header, its client is unknown, or its time is too far off.",
        "Compare .edgerc with `kvasir edgekv ls`, and set the clock.",
        "A signature is good for 30 seconds.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_sentence_of_cause_and_one_of_remedy() {
        for (place, code) in ALL.iter().enumerate() {
            let name = code.name;
            for sentence in [code.cause, code.remedy] {
                let is_sentence = sentence.ends_with('.')
                    && sentence.starts_with(|first: char| first.is_ascii_uppercase());
                assert!(is_sentence, "{name}: {sentence}");
            }
            assert!(code.more.is_empty() || code.more.ends_with('.'), "{name}");
            assert!(
                code.statuses
                    .iter()
                    .all(|status| (400..600).contains(status))
            );
            let twice = ALL.iter().skip(place + 1).any(|other| other.name == name);
            assert!(!twice, "{name} stands here twice");
        }
        assert_eq!(find("urn:kvasir:error:conflict"), find("CONFLICT"));
        assert_eq!(find("nothing of ours"), None);
    }
}
