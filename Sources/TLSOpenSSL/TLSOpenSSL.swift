// TLSOpenSSL
