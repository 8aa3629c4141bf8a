"""Who is who: keys, certificates, and the kit that a hospital joins with."""
