"""Chat formats, language models and their inputs. Only programs import it: it loads torch and transformers."""
