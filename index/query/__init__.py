"""One search: filters, dense and lexical candidates, fusion, diversification, and the state that it reads."""
