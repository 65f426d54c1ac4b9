"""Chat formats, language models and their inputs. Only programs load the models, which needs torch and transformers."""
