//! The Kopano kvs dialect: documents of OAuth2 users.
