#pragma once
// OpenSSL as Swift sees it. The functions below wrap macros, which Swift cannot call.
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>

// Errors

static inline void martlet_ERR_clear(void) {
    // Clearing walks the whole queue; most of the time it is empty, and peeking costs next to nothing.
    if (ERR_peek_error() != 0) ERR_clear_error();
}
static inline int martlet_ERR_reason(unsigned long code) { return ERR_GET_REASON(code); }
static inline int martlet_ERR_is_ssl(unsigned long code) { return ERR_GET_LIB(code) == ERR_LIB_SSL; }

static inline void martlet_free(void *memory) { OPENSSL_free(memory); }

// BIO

static inline void martlet_BIO_clear_retry(BIO *bio) { BIO_clear_retry_flags(bio); }
static inline void martlet_BIO_set_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline long martlet_BIO_get_mem_data(BIO *bio, char **data) { return BIO_get_mem_data(bio, data); }
// The permission bits of the file that a BIO has open; -1 where it has none.
static inline int martlet_BIO_file_mode(BIO *bio) {
    FILE *file = NULL;
    struct stat status;
    if (BIO_get_fp(bio, &file) != 1 || file == NULL || fstat(fileno(file), &status) != 0) return -1;
    return (int)(status.st_mode & 07777);
}

// SSL_CTX

// No compression, no renegotiation, the server's order of ciphers (but ChaCha20 for a peer that prefers it).
static inline void martlet_SSL_CTX_set_house_options(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                     SSL_OP_PRIORITIZE_CHACHA);
}
static inline int martlet_SSL_CTX_set_min_proto_version(SSL_CTX *context, int version) {
    return (int)SSL_CTX_set_min_proto_version(context, version);
}
static inline void martlet_SSL_CTX_set_mode(SSL_CTX *context, long mode) { SSL_CTX_set_mode(context, mode); }
static inline void martlet_SSL_CTX_set_session_cache_mode(SSL_CTX *context, long mode) {
    SSL_CTX_set_session_cache_mode(context, mode);
}
// The object that a context belongs to, for callbacks that are given the context only.
static inline void martlet_SSL_CTX_set_owner(SSL_CTX *context, void *owner) { SSL_CTX_set_app_data(context, owner); }
static inline void *martlet_SSL_CTX_get_owner(const SSL_CTX *context) { return SSL_CTX_get_app_data(context); }
// Copies the keys that session tickets are sealed with; 1 on success.
static inline int martlet_SSL_CTX_copy_ticket_keys(SSL_CTX *from, SSL_CTX *to) {
    unsigned char keys[256];
    long length = SSL_CTX_get_tlsext_ticket_keys(from, NULL, 0);
    if (length <= 0 || length > (long)sizeof keys) return 0;
    int copied = SSL_CTX_get_tlsext_ticket_keys(from, keys, length) == 1 &&
                 SSL_CTX_set_tlsext_ticket_keys(to, keys, length) == 1;
    OPENSSL_cleanse(keys, sizeof keys);
    return copied;
}

// SSL

static inline void martlet_SSL_set_mode(SSL *ssl, long mode) { SSL_set_mode(ssl, mode); }
static inline int martlet_SSL_set_server_name(SSL *ssl, const char *name) {
    return (int)SSL_set_tlsext_host_name(ssl, name);
}

// X509

// As RFC 2253 writes a name, but UTF-8 as it stands; negative on failure.
static inline int martlet_X509_print_subject(BIO *out, const X509 *certificate) {
    return X509_NAME_print_ex(out, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
}

// A new key on the curve P-256; NULL on failure.
static inline EVP_PKEY *martlet_EVP_new_key(void) { return EVP_EC_gen("P-256"); }

// Adds an extension as openssl's configuration writes it; issuer is the certificate itself where it signs itself.
static inline int martlet_X509_add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (extension == NULL) return 0;
    int added = X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    return added;
}

// Lists of certificates. A list that was made here owns what was pushed to it.

static inline int martlet_X509_list_count(const STACK_OF(X509) * list) { return list == NULL ? 0 : sk_X509_num(list); }
static inline X509 *martlet_X509_list_at(const STACK_OF(X509) * list, int index) { return sk_X509_value(list, index); }
static inline STACK_OF(X509) * martlet_X509_list_new(void) { return sk_X509_new_null(); }
static inline void martlet_X509_list_free(STACK_OF(X509) * list) { sk_X509_pop_free(list, X509_free); }
// Takes over the caller's reference on success, which is 1.
static inline int martlet_X509_list_push(STACK_OF(X509) * list, X509 *certificate) {
    return sk_X509_push(list, certificate) > 0;
}

// Subject alternative names

static inline int martlet_GENERAL_NAMES_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }
static inline const GENERAL_NAME *martlet_GENERAL_NAMES_at(const GENERAL_NAMES *names, int index) {
    return sk_GENERAL_NAME_value(names, index);
}
// The text of a DNS name or URI, or the bytes of an IP address; NULL for every other kind.
static inline const ASN1_STRING *martlet_GENERAL_NAME_string(const GENERAL_NAME *name) {
    switch (name->type) {
    case GEN_DNS: return name->d.dNSName;
    case GEN_URI: return name->d.uniformResourceIdentifier;
    case GEN_IPADD: return name->d.iPAddress;
    default: return NULL;
    }
}
static inline int martlet_GENERAL_NAME_type(const GENERAL_NAME *name) { return name->type; }
