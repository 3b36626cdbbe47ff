#pragma once
// OpenSSL's macros are invisible to Swift; each one that is used stands here as a static inline.
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

static inline void martlet_bio_set_retry_read(BIO *bio) { BIO_set_retry_read(bio); }
static inline void martlet_bio_clear_retry_flags(BIO *bio) { BIO_clear_retry_flags(bio); }

static inline int martlet_ctx_set_min_version(SSL_CTX *ctx, int version) {
  return (int)SSL_CTX_set_min_proto_version(ctx, version);
}
static inline void martlet_ctx_set_mode(SSL_CTX *ctx, long mode) { SSL_CTX_set_mode(ctx, mode); }
static inline void martlet_ctx_set_client_session_cache(SSL_CTX *ctx) {
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
}
static inline void martlet_ctx_set_server_session_cache_off(SSL_CTX *ctx) {
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}
// Ticket keys are 80 bytes in OpenSSL 3.
static inline long martlet_ctx_get_ticket_keys(SSL_CTX *ctx, void *keys, long length) {
  return SSL_CTX_get_tlsext_ticket_keys(ctx, keys, length);
}
static inline long martlet_ctx_set_ticket_keys(SSL_CTX *ctx, void *keys, long length) {
  return SSL_CTX_set_tlsext_ticket_keys(ctx, keys, length);
}
static inline int martlet_ssl_set_host_name(SSL *ssl, const char *name) {
  return (int)SSL_set_tlsext_host_name(ssl, name);
}
static inline uint64_t martlet_op_no_renegotiation(void) { return SSL_OP_NO_RENEGOTIATION; }
static inline uint64_t martlet_op_no_compression(void) { return SSL_OP_NO_COMPRESSION; }
static inline uint64_t martlet_op_server_preference(void) { return SSL_OP_CIPHER_SERVER_PREFERENCE; }

static inline unsigned long martlet_name_rfc2253(void) { return XN_FLAG_RFC2253; }

static inline GENERAL_NAMES *martlet_x509_subject_alt_names(X509 *certificate) {
  return (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}
static inline int martlet_general_names_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }
// The type of the name at that index (GEN_URI, GEN_DNS, GEN_IPADD or another), and its bytes.
static inline int martlet_general_name(const GENERAL_NAMES *names, int index, const unsigned char **bytes, int *length) {
  GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
  const ASN1_STRING *text = NULL;
  if (name->type == GEN_URI) text = name->d.uniformResourceIdentifier;
  if (name->type == GEN_DNS) text = name->d.dNSName;
  if (name->type == GEN_IPADD) text = name->d.iPAddress;
  *bytes = text ? ASN1_STRING_get0_data(text) : NULL;
  *length = text ? ASN1_STRING_length(text) : 0;
  return name->type;
}
// Seconds since 1970 UTC; -1 where the time cannot be read.
static inline long long martlet_asn1_time_seconds(const ASN1_TIME *asn1) {
  struct tm parts;
  memset(&parts, 0, sizeof parts);
  if (ASN1_TIME_to_tm(asn1, &parts) != 1) return -1;
  return (long long)timegm(&parts);
}
