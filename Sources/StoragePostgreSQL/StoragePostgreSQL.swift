// StoragePostgreSQL
