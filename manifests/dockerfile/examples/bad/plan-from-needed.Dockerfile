FROM ${BASE:?give the base}
