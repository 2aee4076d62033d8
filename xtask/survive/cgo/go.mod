module survive

go 1.19
